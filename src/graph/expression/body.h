// Goal: what a row operation computes, as text: named operands, a few statements, results. A row of
// each operand, or a vector that all rows read, gives a row of each result:
//   (x, weight) -> factor = rsqrt(mean(x * x) + 1e-05); return x * factor * weight
//   (gate, up) -> gelu_tanh(gate) * up
// Non-goal: types and shapes (shape.cc), what helpers mean (formula.h).
// Rejected: the names of the graph's values in the text. Layers would differ in their text, and so
// in their kernels.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/expression/operators.h"

namespace nereid::graph::expression {

inline constexpr std::size_t kMaxBodyText = 4096;
inline constexpr int kMaxDepth = 48;            // of calls and operators in one another
inline constexpr std::size_t kMaxResults = 4;   // of a body
inline constexpr std::size_t kMaxOperands = 8;  // of a helper, at least those of an operator

struct Body {
  enum class Kind : std::uint8_t { number, name, operation, helper };

  // Operands stand before what reads them.
  struct Node {
    Kind kind;
    double number = 0;
    std::uint32_t index = 0;  // of a name, an Operator, a helper
    std::vector<std::uint32_t> operands = {};
    bool operator==(const Node&) const = default;
  };
  struct Statement {
    std::uint32_t name, value;
    bool operator==(const Statement&) const = default;
  };

  std::vector<std::string> names;  // the operands', then the statements'
  std::size_t n_operands = 0;
  std::vector<Node> nodes;
  std::vector<Statement> statements;
  std::vector<std::uint32_t> results;

  bool operator==(const Body&) const = default;
};

// Errors: "<where>: expression "...", column N: ...".
Body parse_body(std::string_view text, const std::string& where);

// In one way: parse_body(print_body(body)) == body.
std::string print_body(const Body& body);
// One text of all that differ in names only.
std::string print_nameless(Body body);

struct Helper {
  std::string_view name;
  Body body;
};
// Those that stand above the one that is being read, or all.
const std::vector<Helper>& helper_table();

}  // namespace nereid::graph::expression
