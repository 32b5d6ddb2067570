//   %f = dequantise %w, %s
//   %y = linear %x, %f      <=>   %y = linear %x, %w, scale = %s
#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

Graph fuse_dequantise(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::linear) continue;
    const auto* numbers = uses.producer(node.operand("weight"), Op::dequantise);
    if (numbers == nullptr || uses.n_readers(numbers->result("out")) != 1) continue;
    Node fused = node;
    for (const auto* role : {"weight", "scale", "zero"})
      fused.set_operand(role, numbers->operand(role));
    rewrite.remove(*numbers);
    rewrite.replace(node, {std::move(fused)});
  }
  return rewrite.apply();
}

Undone undo_fuse_dequantise(const Uses& uses, const Node& node, Rewrite& rewrite) {
  if (node.op != Op::linear || !node.has("scale")) return std::nullopt;
  const auto& x = uses.graph().value(node.operand("x"));
  Node numbers(Op::dequantise, {node.operand("weight"), node.operand("scale")}, {rewrite.fresh()});
  numbers.set_operand("zero", node.operand("zero"));
  numbers.set_attr("columns", x.shape[1].offset);
  numbers.set_attr("dtype", x.dtype);
  Node linear = node;
  linear.set_operand("weight", numbers.result("out"));
  linear.set_operand("scale", kNoValue);
  linear.set_operand("zero", kNoValue);
  return Nodes{std::move(numbers), std::move(linear)};
}

}  // namespace nereid::graph::passes
