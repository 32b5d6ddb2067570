//   %p = linear %x, %w
//   %y = add %r, %p {alpha = 0.5}   <=>   %y = linear %x, %w, residual = %r {alpha = 0.5}
// and of ranks' sums likewise:
//   %p = all_reduce %x, ...
//   %y = add %r, %p {alpha = 0.5}    =>   %y = all_reduce %x, ..., residual = %r {alpha = 0.5}
#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

namespace {

// What computes the value, if it can take an addition with it; else nullptr.
const Node* stores_sums(const Uses& uses, ValueId id) {
  const auto* linear = uses.producer(id, Op::linear);
  if (linear != nullptr)
    return is_plain_linear(*linear) && linear->attrs.empty() ? linear : nullptr;
  const auto* sum = uses.producer(id, Op::all_reduce);
  return sum != nullptr && !sum->has("residual") ? sum : nullptr;
}

}  // namespace

Graph fuse_residual(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::add) continue;
    const auto* before = stores_sums(uses, node.operand("y"));
    if (before == nullptr || uses.n_readers(node.operand("y")) != 1) continue;
    Node fused = *before;
    fused.set_operand("residual", node.operand("x"));
    fused.set_attr("alpha", node.attr("alpha"));
    fused.outputs = node.outputs;
    rewrite.remove(*before);
    rewrite.replace(node, {std::move(fused)});
  }
  return rewrite.apply();
}

Undone undo_fuse_residual(const Uses&, const Node& node, Rewrite& rewrite) {
  if (node.op != Op::linear || !node.has("residual")) return std::nullopt;
  Node sum(Op::add, {node.operand("residual"), rewrite.fresh()}, node.outputs);
  sum.set_attr("alpha", node.attr("alpha"));
  Node linear = node;
  linear.set_operand("residual", kNoValue);
  linear.unset_attr("alpha");
  linear.outputs = {sum.operand("y")};
  return Nodes{std::move(linear), std::move(sum)};
}

}  // namespace nereid::graph::passes
