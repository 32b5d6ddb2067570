#include "graph/row_ops.h"

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace nereid::graph {

namespace {

const std::string kMapWhere = "map, body";

struct RowOp {
  Op op;
  std::string_view result;
  std::optional<expression::Body> body;  // nothing where each node has its own
};

const RowOp* find_row(Op op) {
  static const auto made = [](Op row_op, std::string_view result, std::string_view text) {
    RowOp row{row_op, result, std::nullopt};
    if (!text.empty()) row.body = expression::parse_body(text, "row_ops.def");
    return row;
  };
  static const std::vector<RowOp> table{
#define ROW_OP(name, result, text) made(Op::name, result, text),
#include "graph/row_ops.def"
#undef ROW_OP
  };
  const auto it = std::ranges::find(table, op, &RowOp::op);
  return it == table.end() ? nullptr : &*it;
}

}  // namespace

bool is_row_op(Op op) { return find_row(op) != nullptr; }

std::vector<std::string> operand_names(const Node& node) {
  std::vector<std::string> names;
  if (node.op == Op::map) {
    names = body_of(node).names;
    names.resize(node.inputs.size());
  } else {
    for (const auto& role : node.row().operands) names.emplace_back(role.name);
  }
  return names;
}

std::vector<std::string> result_names(const Node& node) {
  const auto* row = find_row(node.op);
  NEREID_CHECK(row != nullptr, "{}", node.row().name);
  if (row->body) return {std::string(row->result)};
  const auto body = body_of(node);
  std::vector<std::string> names;
  for (const auto result : body.results) {
    const auto& value = body.nodes[result];
    const bool is_statement =
        value.kind == expression::Body::Kind::name && value.index >= body.n_operands;
    names.push_back(is_statement ? body.names[value.index] : std::string(row->result));
  }
  return names;
}

expression::Body body_of(const Node& node) {
  const auto* row = find_row(node.op);
  NEREID_CHECK(row != nullptr, "{}", node.row().name);
  if (!row->body) return expression::parse_body(node.text_attr(kBody), kMapWhere);
  auto body = *row->body;
  for (auto& term : body.nodes)
    if (term.kind == expression::Body::Kind::name)
      if (const auto& name = body.names[term.index]; node.row().find_attr(name) != nullptr)
        term = {expression::Body::Kind::number, node.float_attr(name)};
  // Attributes are the last of the names.
  std::erase_if(body.names,
                [&](const auto& name) { return node.row().find_attr(name) != nullptr; });
  body.n_operands = body.names.size();
  return body;
}

expression::Formula formula_of(const Node& node) {
  return expression::expand(body_of(node), std::string(node.row().name) + ", body");
}

}  // namespace nereid::graph
