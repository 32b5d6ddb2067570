//   %7 = rms_norm %5, %w          %7 = rms_norm %5, %w
//   %8 = rms_norm %5, %w     =>
//   %9 = add %7, %8               %9 = add %7, %7
#include <map>
#include <tuple>

#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

// Ops that write in place are never the same twice: what they write may have changed in between.
Graph common_subexpressions(const Graph& graph) {
  using Key = std::tuple<Op, const OpRow*, std::vector<ValueId>, Attrs>;
  std::map<Key, const Node*> seen;
  std::map<ValueId, ValueId> same;
  Graph renamed = graph;
  std::vector<std::size_t> removed;
  for (std::size_t i = 0; i < renamed.nodes.size(); ++i) {
    auto& node = renamed.nodes[i];
    for (auto& id : node.inputs)
      if (const auto it = same.find(id); it != same.end()) id = it->second;
    if (has_launch(node.row().op_class) && !operands_in_place(node).empty()) continue;
    const auto [it, is_new] =
        seen.try_emplace({node.op, node.own.get(), node.inputs, node.attrs}, &node);
    if (is_new) continue;
    for (std::size_t j = 0; j < node.outputs.size(); ++j)
      same[node.outputs[j]] = it->second->outputs[j];
    removed.push_back(i);
  }
  for (auto& id : renamed.outputs)
    if (const auto it = same.find(id); it != same.end()) id = it->second;
  Rewrite rewrite(renamed);
  for (const auto i : removed) rewrite.remove(renamed.nodes[i]);
  return rewrite.apply();
}

}  // namespace nereid::graph::passes
