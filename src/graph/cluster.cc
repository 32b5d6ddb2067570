#include "graph/cluster.h"

#include <map>

#include "base/error.h"

namespace nereid::graph {

namespace {

std::string_view result_name(Op op) {
  switch (op) {
    case Op::gather_rows:
      return "gathered";
    case Op::rms_norm:
      return "normed";
    case Op::silu_mul:
      return "gated";
    case Op::rope:
      return "roped";
    case Op::add:
      return "added";
    case Op::scale:
      return "scaled";
    default:
      return {};
  }
}

}  // namespace

bool is_row_op(Op op) { return !result_name(op).empty(); }

Graph with_plain_names(Graph body) {
  std::map<std::string_view, int> n_named;
  for (auto& value : body.values) value.name.clear();
  const auto name = [&](ValueId id, std::string_view what) {
    auto& value = body.values[static_cast<std::size_t>(id)];
    if (!value.name.empty()) return;
    const int n = ++n_named[what];
    value.name = n == 1 ? std::string(what) : fmt::format("{}{}", what, n);
  };
  for (const auto& node : body.nodes) {
    for (const auto& role : op_row(node.op).operands)
      if (node.has(role.name)) name(node.operand(role.name), role.name);
    name(node.outputs[0], result_name(node.op));
  }
  return body;
}

}  // namespace nereid::graph
