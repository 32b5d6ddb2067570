#include <fmt/format.h>

#include "graph/expression/body.h"

namespace nereid::graph::expression {

namespace {

Piece piece_of(const Body& body, std::uint32_t at) {
  const auto& node = body.nodes[at];
  if (node.kind == Body::Kind::number) return number_piece(node.number);
  if (node.kind == Body::Kind::name) return {body.names[node.index]};
  std::vector<Piece> operands;
  for (const auto operand : node.operands) operands.push_back(piece_of(body, operand));
  if (node.kind == Body::Kind::operation)
    return apply(operator_row(static_cast<Operator>(node.index)), Language::plain, operands);
  std::string text(helper_table()[node.index].name);
  for (std::size_t i = 0; i < operands.size(); ++i)
    text += (i == 0 ? "(" : ", ") + operands[i].text;
  return {text + ")"};
}

}  // namespace

std::string print_body(const Body& body) {
  std::string text;
  for (std::size_t i = 0; i < body.n_operands; ++i) text += (i == 0 ? "(" : ", ") + body.names[i];
  text += ") -> ";
  for (const auto& statement : body.statements)
    text += body.names[statement.name] + " = " + piece_of(body, statement.value).text + "; ";
  if (!body.statements.empty()) text += "return ";
  for (std::size_t i = 0; i < body.results.size(); ++i)
    text += (i == 0 ? "" : ", ") + piece_of(body, body.results[i]).text;
  return text;
}

std::string print_nameless(Body body) {
  for (std::size_t i = 0; i < body.names.size(); ++i)
    body.names[i] = i < body.n_operands ? fmt::format("x{}", i) : fmt::format("t{}", i);
  return print_body(body);
}

}  // namespace nereid::graph::expression
