//   %n = rms_norm %x, %g
//   %y = linear %n, %w      =>   %y = norm_linear %x, %g, %w
#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

// Where others read the normalised rows too, computing them once is cheaper.
Graph fuse_norm(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::linear && node.op != Op::linear_swiglu) continue;
    const auto* norm = uses.producer(node.inputs[0], Op::rms_norm);
    if (norm == nullptr || uses.n_readers(norm->outputs[0]) != 1) continue;
    std::vector<ValueId> operands{norm->inputs[0], norm->inputs[1]};
    operands.insert(operands.end(), node.inputs.begin() + 1, node.inputs.end());
    auto attrs = norm->attrs;
    attrs.insert(attrs.end(), node.attrs.begin(), node.attrs.end());
    rewrite.remove(*norm);
    const auto op = node.op == Op::linear ? Op::norm_linear : Op::norm_linear_swiglu;
    rewrite.replace(node, {{op, std::move(operands), std::move(attrs), node.outputs}});
  }
  return rewrite.apply();
}

}  // namespace nereid::graph::passes
