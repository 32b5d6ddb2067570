//   %q = linear %x, %wq           %w = pack %wq, %wk, %wv          (once, when weights are loaded)
//   %k = linear %x, %wk    <=>    %p = linear %x, %w
//   %v = linear %x, %wv           %q, %k, %v = slices of %p        (no launch)
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

namespace {

// What a row of a product has beside those of x: all of it lies below one another.
constexpr std::array kPacked{"weight", "scale", "zero", "bias"};
// Slices begin where kernels were promised that addresses do: every 16 bytes, for any element type.
constexpr std::int64_t kRowMultiple = 16;

// What is packed comes out as slices, whose rows lie apart: a user's kernel may take none.
bool is_read_by_own(const Uses& uses, ValueId id) {
  const auto& nodes = uses.graph().nodes;
  return std::ranges::any_of(uses.readers(id), [&](std::size_t i) {
    if (i >= nodes.size()) return false;
    return nodes[i].op == Op::own ||
           (nodes[i].op == Op::reshape && is_read_by_own(uses, nodes[i].outputs[0]));
  });
}

bool can_pack(const Uses& uses, const Node& node) {
  const auto& graph = uses.graph();
  if (!is_plain_linear(node) || is_read_by_own(uses, node.result("y"))) return false;
  const auto& weight = graph.value(node.operand("weight"));
  return weight.kind == ValueKind::weight && weight.shape[0].offset % kRowMultiple == 0;
}

// Linears that may share a launch: the same rows, and what is packed of one type, or absent.
using Group = std::vector<const Node*>;
std::vector<Group> groups_of(const Graph& graph) {
  // x, the type of y, and of what is packed the types and the columns.
  using Part = std::optional<std::pair<DType, std::int64_t>>;
  using Key = std::tuple<ValueId, DType, std::array<Part, kPacked.size()>>;
  std::map<Key, std::size_t> index;
  std::vector<Group> groups;
  const Uses uses(graph);
  for (const auto& node : graph.nodes) {
    if (!can_pack(uses, node)) continue;
    Key key{node.operand("x"), graph.value(node.result("y")).dtype, {}};
    for (std::size_t i = 0; i < kPacked.size(); ++i) {
      if (!node.has(kPacked[i])) continue;
      const auto& part = graph.value(node.operand(kPacked[i]));
      std::get<2>(key)[i] = {part.dtype, part.shape.size() > 1 ? part.shape[1].offset : 0};
    }
    const auto [it, is_new] = index.try_emplace(key, groups.size());
    if (is_new) groups.emplace_back();
    groups[it->second].push_back(&node);
  }
  return groups;
}

ValueId pack(Rewrite& rewrite, const Graph& graph, const Group& group, std::string_view role,
             Nodes& nodes) {
  std::vector<ValueId> parts;
  for (const auto* linear : group) parts.push_back(linear->operand(role));
  const ValueId packed = rewrite.fresh("packed." + graph.value(parts[0]).name);
  nodes.push_back({Op::pack, std::move(parts), {packed}});
  return packed;
}

}  // namespace

Graph pack_weights(const Graph& graph) {
  Rewrite rewrite(graph);
  for (const auto& group : groups_of(graph)) {
    if (group.size() < 2) continue;
    Nodes nodes;
    Node product = *group[0];
    for (const auto* role : kPacked)
      if (product.has(role)) product.set_operand(role, pack(rewrite, graph, group, role, nodes));
    product.outputs = {rewrite.fresh()};
    nodes.push_back(product);
    std::int64_t begin = 0;
    for (const auto* linear : group) {
      const auto n_cols = graph.value(linear->result("y")).shape[1].offset;
      nodes.push_back(
          {Op::slice, product.outputs, linear->outputs, {{"begin", begin}, {"size", n_cols}}});
      begin += n_cols;
      if (linear != group[0]) rewrite.remove(*linear);
    }
    rewrite.replace(*group[0], std::move(nodes));
  }
  return rewrite.apply();
}

// A linear of packed weights whose results are just the parts: a linear for each part.
Undone undo_pack_weights(const Uses& uses, const Node& node, Rewrite& rewrite) {
  if (!is_plain_linear(node)) return std::nullopt;
  const auto* weights = uses.producer(node.operand("weight"), Op::pack);
  if (weights == nullptr) return std::nullopt;
  for (const auto* role : kPacked)
    if (node.has(role) && uses.producer(node.operand(role), Op::pack) == nullptr)
      return std::nullopt;
  const auto& graph = uses.graph();
  std::vector<const Node*> slices;
  for (const auto i : uses.readers(node.result("y"))) {
    if (i >= graph.nodes.size() || graph.nodes[i].op != Op::slice) return std::nullopt;
    slices.push_back(&graph.nodes[i]);
  }
  Nodes parts;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < weights->inputs.size(); ++i) {
    const auto n_cols = graph.value(weights->inputs[i]).shape[0].offset;
    const auto slice = std::ranges::find_if(slices, [&](const Node* candidate) {
      return candidate->int_attr("begin") == begin && candidate->int_attr("size") == n_cols;
    });
    if (slice == slices.end()) return std::nullopt;
    Node part = node;
    for (const auto* role : kPacked)
      if (node.has(role))
        part.set_operand(role, uses.producer(node.operand(role), Op::pack)->inputs[i]);
    part.outputs = (*slice)->outputs;
    parts.push_back(std::move(part));
    begin += n_cols;
  }
  if (slices.size() != parts.size()) return std::nullopt;
  for (const auto* slice : slices) rewrite.remove(*slice);
  return parts;
}

}  // namespace nereid::graph::passes
