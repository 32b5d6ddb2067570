//   %q1, %kc1, %vc1 = rope_kv_write %p, ...
//   %y = attention %q1, %kc1, %vc1, ...        =>   %y, %kc1, %vc1, %parts = rope_attention %p, ...
#include "graph/passes/passes.h"
#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

// Parts of one sequence meet at a counter, which the last of them sets back to zero.
Graph fuse_rope_attention(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::attention) continue;
    const auto* write = uses.producer(node.inputs[0], Op::rope_kv_write);
    const bool is_only_reader = write != nullptr && uses.n_readers(write->outputs[0]) == 1 &&
                                node.inputs[1] == write->outputs[1] &&
                                node.inputs[2] == write->outputs[2];
    if (!is_only_reader) continue;
    const auto n_heads = graph.value(write->outputs[0]).shape[1];
    const auto arrivals = rewrite.declare(
        {ValueKind::state, std::string(kArrivals), DType::i32, {Symbol::n_sequences, n_heads}});
    std::vector<ValueId> operands(write->inputs.begin(), write->inputs.begin() + 6);
    operands.insert(operands.end(), node.inputs.begin() + 3, node.inputs.end());
    operands.push_back(arrivals);
    operands.insert(operands.end(), write->inputs.begin() + 6, write->inputs.end());
    auto attrs = write->attrs;
    attrs.insert(attrs.end(), node.attrs.begin(), node.attrs.end());
    rewrite.remove(*write);
    rewrite.replace(node,
                    {{Op::rope_attention,
                      std::move(operands),
                      std::move(attrs),
                      {node.outputs[0], write->outputs[1], write->outputs[2], rewrite.fresh()}}});
  }
  return rewrite.apply();
}

}  // namespace nereid::graph::passes
