//   %q = linear %x, %wq           %w = pack %wq, %wk, %wv          (once, when weights are loaded)
//   %k = linear %x, %wk     =>    %p = linear %x, %w
//   %v = linear %x, %wv           %q, %k, %v = slices of %p        (no launch)
#include <map>

#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

namespace {

constexpr std::size_t kMaxParts = 3;  // what `pack` takes
// Slices begin where kernels were promised that addresses do: every 16 bytes, for any element type.
constexpr std::int64_t kRowMultiple = 16;

bool can_pack(const Graph& graph, const Node& node) {
  const auto& weight = graph.value(node.inputs[1]);
  return weight.kind == ValueKind::weight && weight.shape[0].offset % kRowMultiple == 0;
}

// Linears that may share a launch: the same rows, element types, and all with a bias or none.
using Group = std::vector<const Node*>;
std::vector<Group> groups_of(const Graph& graph) {
  struct Key {
    ValueId x;
    DType weight, out;
    bool has_bias;
    auto operator<=>(const Key&) const = default;
  };
  std::map<Key, std::size_t> index;
  std::vector<Group> groups;
  for (const auto& node : graph.nodes) {
    if (node.op != Op::linear || !can_pack(graph, node)) continue;
    const Key key{node.inputs[0], graph.value(node.inputs[1]).dtype,
                  graph.value(node.outputs[0]).dtype, node.inputs.size() > 2};
    const auto [it, is_new] = index.try_emplace(key, groups.size());
    if (is_new) groups.emplace_back();
    groups[it->second].push_back(&node);
  }
  return groups;
}

ValueId pack(Rewrite& rewrite, const Graph& graph, const Group& group, std::size_t operand,
             std::vector<NewNode>& nodes) {
  const ValueId packed = rewrite.fresh();
  NewNode node{Op::pack, {}, {}, {packed}, "packed." + graph.value(group[0]->inputs[operand]).name};
  for (const auto* linear : group) node.inputs.push_back(linear->inputs[operand]);
  nodes.push_back(std::move(node));
  return packed;
}

}  // namespace

Graph pack_weights(const Graph& graph) {
  Rewrite rewrite(graph);
  for (const auto& group : groups_of(graph)) {
    if (group.size() < 2 || group.size() > kMaxParts) continue;
    std::vector<NewNode> nodes;
    std::vector<ValueId> operands{group[0]->inputs[0], pack(rewrite, graph, group, 1, nodes)};
    if (group[0]->inputs.size() > 2) operands.push_back(pack(rewrite, graph, group, 2, nodes));
    const ValueId product = rewrite.fresh();
    nodes.push_back({Op::linear, operands, group[0]->attrs, {product}});
    std::int64_t begin = 0;
    for (const auto* linear : group) {
      const auto n_cols = graph.value(linear->outputs[0]).shape[1].offset;
      nodes.push_back(
          {Op::slice, {product}, {{"begin", begin}, {"size", n_cols}}, linear->outputs});
      begin += n_cols;
      if (linear != group[0]) rewrite.remove(*linear);
    }
    rewrite.replace(*group[0], std::move(nodes));
  }
  return rewrite.apply();
}

}  // namespace nereid::graph::passes
