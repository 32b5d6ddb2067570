//   %p = linear %x, %w
//   %gate, %up = halves of %p     =>   %y = linear %x, %w {epilogue = swiglu}
//   %y = silu_mul %gate, %up
#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

Graph fuse_swiglu(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::silu_mul) continue;
    const auto* gate = uses.producer(node.operand("gate"), Op::slice);
    const auto* up = uses.producer(node.operand("up"), Op::slice);
    if (gate == nullptr || up == nullptr || gate->operand("x") != up->operand("x")) continue;
    const auto* linear = uses.producer(gate->operand("x"), Op::linear);
    const auto n_cols = graph.value(node.result("out")).shape[1].offset;
    const bool are_halves =
        linear != nullptr && is_plain_linear(*linear) && uses.n_readers(linear->result("y")) == 2 &&
        uses.n_readers(gate->result("out")) == 1 && uses.n_readers(up->result("out")) == 1 &&
        gate->int_attr("begin") == 0 && up->int_attr("begin") == n_cols &&
        graph.value(linear->result("y")).shape[1] == Dim(2 * n_cols);
    if (!are_halves) continue;
    Node fused = *linear;
    fused.set_attr("epilogue", "swiglu");
    fused.outputs = node.outputs;
    rewrite.remove(*linear);
    rewrite.remove(*gate);
    rewrite.remove(*up);
    rewrite.replace(node, {std::move(fused)});
  }
  return rewrite.apply();
}

}  // namespace nereid::graph::passes
