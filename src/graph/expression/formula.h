// Goal: a body with all that it calls written out, as a list of terms in an order that can be
// computed: what is the same is one term, what is constant is a number.
// Non-goal: text of it (assignments.h).
// Rejected: a tree. A helper reads its operand several times; helpers in helpers would double it
// each time.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/expression/body.h"

namespace nereid::graph::expression {

inline constexpr std::size_t kMaxTerms = 1024;

struct Term {
  enum class Kind : std::uint8_t { number, operand, operation };
  Kind kind;
  double number = 0;
  std::uint32_t operand = 0;  // which
  Operator op = {};
  std::uint32_t n_operands = 0;
  std::array<std::uint32_t, 3> operands = {};  // of an operation: terms before this one
  // Differs from column to column; else it is one number a row.
  bool varies = false;

  std::span<const std::uint32_t> reads() const { return {operands.data(), n_operands}; }
};

struct Formula {
  std::size_t n_operands = 0;
  std::vector<Term> terms = {};
  std::vector<std::string> names = {};  // by term: what a statement calls it, or nothing
  std::vector<std::uint32_t> results = {};

  bool has_reduction() const;
  // A column's, with what is read or reduced once counted once.
  int flops() const;
};

// Each operand of the body is the formula's of the same number. An Error where a sum or a result
// reads no operand, or where it is too long.
Formula expand(const Body& body, const std::string& where);

}  // namespace nereid::graph::expression
