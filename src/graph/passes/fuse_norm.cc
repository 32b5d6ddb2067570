//   %n = rms_norm %x, %g
//   %y = linear %n, %w      =>   %y = linear %x, %w, norm = %g
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

}  // namespace nereid::graph::passes
