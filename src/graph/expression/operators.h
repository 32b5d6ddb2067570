// Goal: what an operator of expressions is: how it is written, what binds more, what it is in
// Triton and in numpy, what it costs. All of it is the operator's row in operators.def.
// Non-goal: what is called by name and made of operators (helpers.def).
// Rejected: a switch for each of text, Triton and numpy. They would disagree one day.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace nereid::graph::expression {

enum class Operator : std::uint8_t {
#define EXPRESSION_OP(name, ...) name,
#define EXPRESSION_REDUCTION(name, ...) name,
#include "graph/expression/operators.def"
#undef EXPRESSION_OP
#undef EXPRESSION_REDUCTION
};

// In the order in which they bind; calls and reductions bind all that stands in them.
enum class Form : std::uint8_t { comparison, sum, product, prefix, call, reduction };

struct OperatorRow {
  Operator op;
  std::string_view text;
  Form form;
  std::size_t n_operands;
  std::string_view triton, numpy;
  int flops;  // of a column
  double (*value)(double, double, double);
  std::string_view begin = {}, step = {};  // of a reduction, in Triton

  bool is_infix() const { return form <= Form::product; }
  bool is_condition() const { return form == Form::comparison; }
  bool is_reduction() const { return form == Form::reduction; }
};

std::span<const OperatorRow> operator_table();
const OperatorRow& operator_row(Operator op);

// A text and what binds it: what stands where more is bound gets parentheses.
struct Piece {
  std::string text;
  Form form = Form::call;
};
Piece number_piece(double value);

// In the language of operands and expressions, in Triton or in numpy.
enum class Language : std::uint8_t { plain, triton, numpy };
Piece apply(const OperatorRow& row, Language language, std::span<const Piece> operands);

}  // namespace nereid::graph::expression
