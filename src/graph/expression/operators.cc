#include "graph/expression/operators.h"

#include <bit>
#include <cmath>

#include <fmt/format.h>

namespace nereid::graph::expression {

namespace {

double rounded_to_fp16(double value) { return static_cast<double>(static_cast<_Float16>(value)); }

// To nearest, ties to even: of a float's bits the upper half is left.
double rounded_to_bf16(double value) {
  constexpr std::uint32_t kLower = 0xffff;
  const auto single = static_cast<float>(value);
  if (std::isnan(single)) return value;
  auto bits = std::bit_cast<std::uint32_t>(single);
  bits += (kLower >> 1) + ((bits >> 16) & 1);
  return std::bit_cast<float>(bits & ~kLower);
}

constexpr OperatorRow kTable[] = {
#define EXPRESSION_OP(name, text, form, n_operands, triton, numpy, flops, result)                  \
  {Operator::name,                                                                                 \
   text,                                                                                           \
   Form::form,                                                                                     \
   n_operands,                                                                                     \
   triton,                                                                                         \
   numpy,                                                                                          \
   flops,                                                                                          \
   []([[maybe_unused]] double a, [[maybe_unused]] double b, [[maybe_unused]] double c) -> double { \
     return result;                                                                                \
   }},
#define EXPRESSION_REDUCTION(name, text, triton, numpy, flops, begin, step, result) \
  {Operator::name,  text,                                                           \
   Form::reduction, 1,                                                              \
   triton,          numpy,                                                          \
   flops,           [](double a, double b, double) -> double { return result; },                   \
   begin,           step},
#include "graph/expression/operators.def"
#undef EXPRESSION_OP
#undef EXPRESSION_REDUCTION
};

std::string in_parentheses(const Piece& piece, bool is_needed) {
  return is_needed ? "(" + piece.text + ")" : piece.text;
}

// As written: "a + b", "-a", "exp(a)".
std::string plain_template(const OperatorRow& row) {
  if (row.is_infix()) return fmt::format("{{0}} {} {{1}}", row.text);
  if (row.form == Form::prefix) return fmt::format("{}{{0}}", row.text);
  std::string text(row.text);
  for (std::size_t i = 0; i < row.n_operands; ++i)
    text += fmt::format("{}{{{}}}", i == 0 ? "(" : ", ", i);
  return text + ")";
}

std::string filled(std::string_view text, std::span<const std::string> operands) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '{') {
      out += text[i];
      continue;
    }
    out += operands[static_cast<std::size_t>(text[i + 1] - '0')];
    i += 2;  // the digit and the brace
  }
  return out;
}

}  // namespace

std::span<const OperatorRow> operator_table() { return kTable; }

const OperatorRow& operator_row(Operator op) { return kTable[static_cast<std::size_t>(op)]; }

Piece number_piece(double value) {
  if (std::isnan(value)) return {"float(\"nan\")"};
  if (std::isinf(value)) return {value < 0 ? "float(\"-inf\")" : "float(\"inf\")"};
  auto text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return {std::move(text), std::signbit(value) ? Form::prefix : Form::call};
}

Piece apply(const OperatorRow& row, Language language, std::span<const Piece> operands) {
  std::array<std::string, 3> texts;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    // Comparisons do not chain; what stands right of an infix operator is bound before it.
    const bool is_tight = row.is_infix() && (i == 1 || row.is_condition());
    texts[i] = in_parentheses(
        operands[i], row.form < Form::call && (operands[i].form < row.form ||
                                               (is_tight && operands[i].form == row.form)));
  }
  if (language == Language::plain) return {filled(plain_template(row), texts), row.form};
  const auto text = filled(language == Language::triton ? row.triton : row.numpy, texts);
  // A mean in Triton is a quotient.
  const bool is_quotient = row.is_reduction() && !text.ends_with(')');
  return {text, is_quotient ? Form::product : row.form};
}

}  // namespace nereid::graph::expression
