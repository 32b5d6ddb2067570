#include "graph/passes/decompose.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "graph/cluster.h"
#include "graph/passes/passes.h"

namespace nereid::graph {

namespace passes {

Graph fuse_pointwise(const Graph& graph);

namespace {

using Attrs = std::vector<std::pair<std::string, Attr>>;

Attrs attrs_of(const Node& node, std::initializer_list<std::string_view> names, bool is_named) {
  Attrs some;
  for (const auto& attr : node.attrs)
    if ((std::find(names.begin(), names.end(), attr.first) != names.end()) == is_named)
      some.push_back(attr);
  return some;
}
Attrs only(const Node& node, std::initializer_list<std::string_view> names) {
  return attrs_of(node, names, true);
}
Attrs without(const Node& node, std::initializer_list<std::string_view> names) {
  return attrs_of(node, names, false);
}

std::vector<ValueId> operands(const Node& node, std::size_t begin, std::size_t end) {
  end = std::min(end, node.inputs.size());
  if (begin >= end) return {};
  return {node.inputs.begin() + static_cast<std::ptrdiff_t>(begin),
          node.inputs.begin() + static_cast<std::ptrdiff_t>(end)};
}

std::vector<ValueId> joined(std::vector<ValueId> first, const std::vector<ValueId>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

constexpr std::size_t kRest = 32;  // more operands than an op has

// x norm weight bias? -> the norm, and the same linear without it.
std::vector<NewNode> take_norm_off(const Node& node, Op linear, Rewrite& rewrite) {
  const ValueId normalised = rewrite.fresh();
  return {{Op::rms_norm, operands(node, 0, 2), only(node, {"eps"}), {normalised}},
          {linear, joined({normalised}, operands(node, 2, kRest)), without(node, {"eps"}),
           node.outputs}};
}

std::vector<NewNode> take_swiglu_off(const Graph& graph, const Node& node, Rewrite& rewrite) {
  const auto n_cols = graph.value(node.outputs[0]).shape[1].offset;
  const ValueId both = rewrite.fresh();
  const ValueId gate = rewrite.fresh();
  const ValueId up = rewrite.fresh();
  return {{Op::linear, node.inputs, node.attrs, {both}},
          {Op::slice, {both}, {{"begin", std::int64_t{0}}, {"size", n_cols}}, {gate}},
          {Op::slice, {both}, {{"begin", n_cols}, {"size", n_cols}}, {up}},
          {Op::silu_mul, {gate, up}, {}, node.outputs}};
}

std::vector<NewNode> take_residual_off(const Node& node, Rewrite& rewrite) {
  const ValueId product = rewrite.fresh();
  return {{Op::linear, joined(operands(node, 0, 2), operands(node, 3, kRest)), {}, {product}},
          {Op::add, {node.inputs[2], product}, node.attrs, node.outputs}};
}

std::vector<NewNode> take_rope_off(const Node& node, Rewrite& rewrite) {
  const ValueId queries = rewrite.fresh();
  return {{Op::rope_kv_write,
           joined(operands(node, 0, 6), operands(node, 10, kRest)),
           only(node, {"heads", "eps"}),
           {queries, node.outputs[1], node.outputs[2]}},
          {Op::attention,
           joined({queries, node.outputs[1], node.outputs[2]}, operands(node, 6, 9)),
           without(node, {"heads", "eps"}),
           {node.outputs[0]}}};
}

std::vector<NewNode> split_rope_kv_write(const Graph& graph, const Node& node, Rewrite& rewrite) {
  const auto& cache = graph.value(node.inputs[4]).shape;
  const auto head_dim = cache[3].offset;
  const std::array<std::int64_t, 3> heads{node.int_attr("heads", 0), cache[1].offset,
                                          cache[1].offset};
  std::vector<NewNode> nodes;
  std::array<ValueId, 3> rows{};
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    const ValueId slice = rewrite.fresh();
    rows[i] = rewrite.fresh();
    nodes.push_back(
        {Op::slice, {node.inputs[0]}, {{"begin", begin}, {"size", heads[i] * head_dim}}, {slice}});
    nodes.push_back({Op::reshape, {slice}, {{"heads", heads[i]}}, {rows[i]}});
    begin += heads[i] * head_dim;
  }
  if (node.inputs.size() > 6)
    for (std::size_t i = 0; i < 2; ++i) {
      const ValueId normalised = rewrite.fresh();
      nodes.push_back(
          {Op::rms_norm, {rows[i], node.inputs[6 + i]}, only(node, {"eps"}), {normalised}});
      rows[i] = normalised;
    }
  const ValueId key = rewrite.fresh();
  nodes.push_back({Op::rope, {rows[0], node.inputs[1], node.inputs[2]}, {}, {node.outputs[0]}});
  nodes.push_back({Op::rope, {rows[1], node.inputs[1], node.inputs[2]}, {}, {key}});
  nodes.push_back({Op::kv_write,
                   {key, rows[2], node.inputs[3], node.inputs[4], node.inputs[5]},
                   {},
                   {node.outputs[1], node.outputs[2]}});
  return nodes;
}

std::vector<NewNode> take_out(const Graph& graph, const Node& cluster, Rewrite& rewrite) {
  const Graph body = cluster_body(graph, cluster);
  std::vector<ValueId> ids(body.values.size(), kNoValue);
  std::copy(cluster.inputs.begin(), cluster.inputs.end(), ids.begin());
  for (std::size_t i = 0; i < body.outputs.size(); ++i)
    ids[static_cast<std::size_t>(body.outputs[i])] = cluster.outputs[i];
  std::vector<NewNode> nodes;
  for (const auto& node : body.nodes) {
    auto& result = ids[static_cast<std::size_t>(node.outputs[0])];
    if (result == kNoValue) result = rewrite.fresh();
    std::vector<ValueId> inputs;
    for (const auto id : node.inputs) inputs.push_back(ids[static_cast<std::size_t>(id)]);
    nodes.push_back({node.op, std::move(inputs), node.attrs, {result}});
  }
  return nodes;
}

// A linear of packed weights whose results are just the parts: a linear for each part.
std::optional<std::vector<NewNode>> unpack(const Uses& uses, const Graph& graph, const Node& node,
                                           std::vector<const Node*>& slices) {
  const auto* weights = uses.producer(node.inputs[1], Op::pack);
  if (weights == nullptr) return std::nullopt;
  const auto* biases = node.inputs.size() > 2 ? uses.producer(node.inputs[2], Op::pack) : nullptr;
  for (const auto i : uses.readers(node.outputs[0])) {
    if (i >= graph.nodes.size() || graph.nodes[i].op != Op::slice) return std::nullopt;
    slices.push_back(&graph.nodes[i]);
  }
  std::vector<NewNode> nodes;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < weights->inputs.size(); ++i) {
    const auto n_cols = graph.value(weights->inputs[i]).shape[0].offset;
    const auto slice = std::find_if(slices.begin(), slices.end(), [&](const Node* candidate) {
      return candidate->int_attr("begin", 0) == begin && candidate->int_attr("size", 0) == n_cols;
    });
    if (slice == slices.end()) return std::nullopt;
    std::vector<ValueId> inputs{node.inputs[0], weights->inputs[i]};
    if (biases != nullptr) inputs.push_back(biases->inputs[i]);
    nodes.push_back({Op::linear, std::move(inputs), node.attrs, (*slice)->outputs});
    begin += n_cols;
  }
  if (slices.size() != nodes.size()) return std::nullopt;
  return nodes;
}

Graph unpack_weights(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::linear) continue;
    std::vector<const Node*> slices;
    auto parts = unpack(uses, graph, node, slices);
    if (!parts) continue;
    for (const auto* slice : slices) rewrite.remove(*slice);
    rewrite.replace(node, std::move(*parts));
  }
  return canonical(rewrite.apply());
}

}  // namespace

std::optional<std::vector<NewNode>> decomposition(const Graph& graph, const Node& node,
                                                  Rewrite& rewrite) {
  switch (node.op) {
    case Op::norm_linear:
      return take_norm_off(node, Op::linear, rewrite);
    case Op::norm_linear_swiglu:
      return take_norm_off(node, Op::linear_swiglu, rewrite);
    case Op::linear_swiglu:
      return take_swiglu_off(graph, node, rewrite);
    case Op::linear_add:
      return take_residual_off(node, rewrite);
    case Op::rope_attention:
      return take_rope_off(node, rewrite);
    case Op::rope_kv_write:
      return split_rope_kv_write(graph, node, rewrite);
    case Op::cluster:
      return take_out(graph, node, rewrite);
    case Op::greedy_split:
      return std::vector<NewNode>{{Op::greedy, {node.inputs[0]}, {}, {node.outputs[0]}}};
    default:
      return std::nullopt;
  }
}

namespace {

// Every node that is one of `which`, one level down; whether there was any.
template <typename Which>
bool take_apart(Graph& graph, const Which& which) {
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (!which(graph, node)) continue;
    if (auto nodes = decomposition(graph, node, rewrite)) rewrite.replace(node, std::move(*nodes));
  }
  if (rewrite.is_empty()) return false;
  graph = rewrite.apply();
  return true;
}

}  // namespace

}  // namespace passes

Graph decompose(const Graph& graph) {
  Graph result = graph;
  while (passes::take_apart(result, [](const Graph&, const Node&) { return true; })) {
  }
  return passes::unpack_weights(result);
}

Graph legalise(const Graph& graph, const StepClass& steps, const std::set<std::string>& skip) {
  const bool is_clustering = !skip.contains("fuse_pointwise");
  Graph result = graph;
  // Clusters too: with what is taken apart beside them they may become larger ones.
  while (passes::take_apart(result, [&](const Graph& g, const Node& node) {
    return !has_kernel(g, node, steps) || (is_clustering && node.op == Op::cluster);
  })) {
  }
  result = passes::canonical(result);
  return is_clustering ? passes::fuse_pointwise(result) : result;
}

}  // namespace nereid::graph
