//   %p = linear %x, %w
//   %gate, %up = halves of %p     =>   %y = linear_swiglu %x, %w
//   %y = silu_mul %gate, %up
#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

Graph fuse_swiglu(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::silu_mul) continue;
    const auto* gate = uses.producer(node.inputs[0], Op::slice);
    const auto* up = uses.producer(node.inputs[1], Op::slice);
    if (gate == nullptr || up == nullptr || gate->inputs[0] != up->inputs[0]) continue;
    const auto* linear = uses.producer(gate->inputs[0], Op::linear);
    const auto n_cols = graph.value(node.outputs[0]).shape[1].offset;
    const bool are_halves = linear != nullptr && uses.n_readers(linear->outputs[0]) == 2 &&
                            uses.n_readers(gate->outputs[0]) == 1 &&
                            uses.n_readers(up->outputs[0]) == 1 &&
                            gate->int_attr("begin", 0) == 0 && up->int_attr("begin", 0) == n_cols &&
                            graph.value(linear->outputs[0]).shape[1] == Dim(2 * n_cols);
    if (!are_halves) continue;
    rewrite.remove(*linear);
    rewrite.remove(*gate);
    rewrite.remove(*up);
    rewrite.replace(node, {{Op::linear_swiglu, linear->inputs, linear->attrs, node.outputs}});
  }
  return rewrite.apply();
}

}  // namespace nereid::graph::passes
