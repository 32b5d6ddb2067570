//   %p = linear %x, %w
//   %y = add %r, %p {alpha = 0.5}   <=>   %y = linear %x, %w, residual = %r {alpha = 0.5}
#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

Graph fuse_residual(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::add) continue;
    const auto* linear = uses.producer(node.operand("y"), Op::linear);
    if (linear == nullptr || !is_plain_linear(*linear) || !linear->attrs.empty() ||
        uses.n_readers(linear->result("y")) != 1)
      continue;
    Node fused = *linear;
    fused.set_operand("residual", node.operand("x"));
    fused.set_attr("alpha", node.attr("alpha"));
    fused.outputs = node.outputs;
    rewrite.remove(*linear);
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
