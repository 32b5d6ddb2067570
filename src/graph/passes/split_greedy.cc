//   %ids = greedy %logits     <=>   %ids, %parts = greedy_split %logits, %arrivals
#include "graph/passes/passes.h"

namespace nereid::graph::passes {

// Parts of a row meet at a counter, as those of rope_attention do.
Graph split_greedy(const Graph& graph) {
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::greedy) continue;
    const auto& rows = graph.value(node.result("out")).shape[0];
    const auto arrivals =
        rewrite.declare({ValueKind::state, std::string(kGreedyArrivals), DType::i32, {rows}});
    rewrite.replace(node, {{Op::greedy_split,
                            {node.operand("logits"), arrivals},
                            {node.result("out"), rewrite.fresh()}}});
  }
  return rewrite.apply();
}

Undone undo_split_greedy(const Uses&, const Node& node, Rewrite&) {
  if (node.op != Op::greedy_split) return std::nullopt;
  return Nodes{{Op::greedy, {node.operand("logits")}, {node.result("out")}}};
}

}  // namespace nereid::graph::passes
