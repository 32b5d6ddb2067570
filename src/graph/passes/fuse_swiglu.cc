//   %p = linear %x, %w
//   %gate, %up = halves of %p     <=>   %y = linear %x, %w {epilogue = swiglu}
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

Undone undo_fuse_swiglu(const Uses& uses, const Node& node, Rewrite& rewrite) {
  if (node.op != Op::linear || node.text_attr("epilogue") != "swiglu") return std::nullopt;
  const auto n_cols = uses.graph().value(node.result("y")).shape[1].offset;
  const ValueId both = rewrite.fresh();
  const ValueId gate = rewrite.fresh();
  const ValueId up = rewrite.fresh();
  Node linear = node;
  linear.unset_attr("epilogue");
  linear.outputs = {both};
  return Nodes{std::move(linear),
               {Op::slice, {both}, {gate}, {{"begin", std::int64_t{0}}, {"size", n_cols}}},
               {Op::slice, {both}, {up}, {{"begin", n_cols}, {"size", n_cols}}},
               {Op::silu_mul, {gate, up}, node.outputs}};
}

}  // namespace nereid::graph::passes
