//   %p = linear %x, %w
//   %y = add %r, %p {alpha = 0.5}   =>   %y = linear_add %x, %w, %r {alpha = 0.5}
#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

Graph fuse_residual(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::add) continue;
    const auto* linear = uses.producer(node.inputs[1], Op::linear);
    if (linear == nullptr || uses.n_readers(linear->outputs[0]) != 1 || !linear->attrs.empty())
      continue;
    std::vector<ValueId> operands{linear->inputs[0], linear->inputs[1], node.inputs[0]};
    if (linear->inputs.size() > 2) operands.push_back(linear->inputs[2]);
    rewrite.remove(*linear);
    rewrite.replace(node, {{Op::linear_add, std::move(operands), node.attrs, node.outputs}});
  }
  return rewrite.apply();
}

}  // namespace nereid::graph::passes
