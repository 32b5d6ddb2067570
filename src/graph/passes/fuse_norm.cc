//   %n = rms_norm %x, %g
//   %y = linear %n, %w      <=>   %y = linear %x, %w, norm = %g
#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

// Where others read the normalised rows too, computing them once is cheaper.
Graph fuse_norm(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::linear || node.has("norm") || node.has("residual")) continue;
    const auto* norm = uses.producer(node.operand("x"), Op::rms_norm);
    if (norm == nullptr || uses.n_readers(norm->result("out")) != 1) continue;
    Node fused = node;
    fused.set_operand("x", norm->operand("x"));
    fused.set_operand("norm", norm->operand("weight"));
    fused.set_attr("eps", norm->attr("eps"));
    rewrite.remove(*norm);
    rewrite.replace(node, {std::move(fused)});
  }
  return rewrite.apply();
}

Undone undo_fuse_norm(const Uses&, const Node& node, Rewrite& rewrite) {
  if (node.op != Op::linear || !node.has("norm")) return std::nullopt;
  Node norm(Op::rms_norm, {node.operand("x"), node.operand("norm")}, {rewrite.fresh()});
  norm.set_attr("eps", node.attr("eps"));
  Node linear = node;
  linear.set_operand("x", norm.result("out"));
  linear.set_operand("norm", kNoValue);
  linear.unset_attr("eps");
  return Nodes{std::move(norm), std::move(linear)};
}

}  // namespace nereid::graph::passes
