#include "graph/passes/decompose.h"

#include <algorithm>
#include <string_view>

#include "graph/cluster.h"
#include "graph/passes/passes.h"

namespace nereid::graph {

namespace passes {

Graph fuse_pointwise(const Graph& graph);

namespace {

std::vector<Node> take_residual_off(const Node& node, Rewrite& rewrite) {
  Node sum(Op::add, {node.operand("residual"), rewrite.fresh()}, node.outputs);
  sum.set_attr("alpha", node.attr("alpha"));
  Node linear = node;
  linear.set_operand("residual", kNoValue);
  linear.unset_attr("alpha");
  linear.outputs = {sum.operand("y")};
  return {std::move(linear), std::move(sum)};
}

std::vector<Node> take_norm_off(const Node& node, Rewrite& rewrite) {
  Node norm(Op::rms_norm, {node.operand("x"), node.operand("norm")}, {rewrite.fresh()});
  norm.set_attr("eps", node.attr("eps"));
  Node linear = node;
  linear.set_operand("x", norm.result("out"));
  linear.set_operand("norm", kNoValue);
  linear.unset_attr("eps");
  return {std::move(norm), std::move(linear)};
}

std::vector<Node> take_swiglu_off(const Graph& graph, const Node& node, Rewrite& rewrite) {
  const auto n_cols = graph.value(node.result("y")).shape[1].offset;
  const ValueId both = rewrite.fresh();
  const ValueId gate = rewrite.fresh();
  const ValueId up = rewrite.fresh();
  Node linear = node;
  linear.unset_attr("epilogue");
  linear.outputs = {both};
  return {std::move(linear),
          {Op::slice, {both}, {gate}, {{"begin", std::int64_t{0}}, {"size", n_cols}}},
          {Op::slice, {both}, {up}, {{"begin", n_cols}, {"size", n_cols}}},
          {Op::silu_mul, {gate, up}, node.outputs}};
}

std::vector<Node> take_rope_off(const Node& node, Rewrite& rewrite) {
  Node write(Op::rope_kv_write, {},
             {rewrite.fresh(), node.result("k_cache"), node.result("v_cache")});
  write.adopt(node);
  Node attention(Op::attention, {}, {node.result("out")});
  attention.adopt(node);
  attention.set_operand("q", write.result("q"));
  attention.set_operand("k_cache", write.result("k_cache"));
  attention.set_operand("v_cache", write.result("v_cache"));
  return {std::move(write), std::move(attention)};
}

std::vector<Node> split_rope_kv_write(const Graph& graph, const Node& node, Rewrite& rewrite) {
  const auto& cache = graph.value(node.operand("k_cache")).shape;
  const auto head_dim = cache[3].offset;
  std::vector<Node> nodes;
  std::int64_t begin = 0;
  const auto heads_of = [&](std::int64_t n_heads) {
    const ValueId slice = rewrite.fresh();
    const ValueId rows = rewrite.fresh();
    const std::int64_t n_cols = n_heads * head_dim;
    nodes.push_back(
        {Op::slice, {node.operand("qkv")}, {slice}, {{"begin", begin}, {"size", n_cols}}});
    nodes.push_back({Op::reshape, {slice}, {rows}, {{"heads", n_heads}}});
    begin += n_cols;
    return rows;
  };
  const auto turned = [&](ValueId rows, std::string_view norm_role, ValueId result) {
    if (node.has(norm_role)) {
      const ValueId normalised = rewrite.fresh();
      nodes.push_back({Op::rms_norm,
                       {rows, node.operand(norm_role)},
                       {normalised},
                       {{"eps", node.attr("eps")}}});
      rows = normalised;
    }
    nodes.push_back(
        {Op::rope, {rows, node.operand("positions"), node.operand("inv_freq")}, {result}});
  };
  const ValueId q = heads_of(node.int_attr("heads"));
  const ValueId k = heads_of(cache[1].offset);
  const ValueId v = heads_of(cache[1].offset);
  const ValueId turned_k = rewrite.fresh();
  turned(q, "q_norm", node.result("q"));
  turned(k, "k_norm", turned_k);
  Node write(Op::kv_write, {turned_k, v}, {node.result("k_cache"), node.result("v_cache")});
  write.adopt(node);
  nodes.push_back(std::move(write));
  return nodes;
}

std::vector<Node> take_out(const Graph& graph, const Node& cluster, Rewrite& rewrite) {
  const Graph body = cluster_body(graph, cluster);
  std::vector<ValueId> ids(body.values.size(), kNoValue);
  std::copy(cluster.inputs.begin(), cluster.inputs.end(), ids.begin());
  for (std::size_t i = 0; i < body.outputs.size(); ++i)
    ids[static_cast<std::size_t>(body.outputs[i])] = cluster.outputs[i];
  std::vector<Node> nodes;
  for (auto node : body.nodes) {
    auto& result = ids[static_cast<std::size_t>(node.outputs[0])];
    if (result == kNoValue) result = rewrite.fresh();
    for (auto& id : node.inputs)
      if (id != kNoValue) id = ids[static_cast<std::size_t>(id)];
    node.outputs = {result};
    nodes.push_back(std::move(node));
  }
  return nodes;
}

// A linear of packed weights whose results are just the parts: a linear for each part.
std::optional<std::vector<Node>> unpack(const Uses& uses, const Graph& graph, const Node& node,
                                        std::vector<const Node*>& slices) {
  const auto* weights = uses.producer(node.operand("weight"), Op::pack);
  if (weights == nullptr) return std::nullopt;
  const auto* biases = node.has("bias") ? uses.producer(node.operand("bias"), Op::pack) : nullptr;
  for (const auto i : uses.readers(node.result("y"))) {
    if (i >= graph.nodes.size() || graph.nodes[i].op != Op::slice) return std::nullopt;
    slices.push_back(&graph.nodes[i]);
  }
  std::vector<Node> nodes;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < weights->inputs.size(); ++i) {
    const auto n_cols = graph.value(weights->inputs[i]).shape[0].offset;
    const auto slice = std::find_if(slices.begin(), slices.end(), [&](const Node* candidate) {
      return candidate->int_attr("begin") == begin && candidate->int_attr("size") == n_cols;
    });
    if (slice == slices.end()) return std::nullopt;
    Node part = node;
    part.set_operand("weight", weights->inputs[i]);
    if (biases != nullptr) part.set_operand("bias", biases->inputs[i]);
    part.outputs = (*slice)->outputs;
    nodes.push_back(std::move(part));
    begin += n_cols;
  }
  if (slices.size() != nodes.size()) return std::nullopt;
  return nodes;
}

Graph unpack_weights(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (!is_plain_linear(node)) continue;
    std::vector<const Node*> slices;
    auto parts = unpack(uses, graph, node, slices);
    if (!parts) continue;
    for (const auto* slice : slices) rewrite.remove(*slice);
    rewrite.replace(node, std::move(*parts));
  }
  return canonical(rewrite.apply());
}

}  // namespace

std::optional<std::vector<Node>> decomposition(const Graph& graph, const Node& node,
                                               Rewrite& rewrite) {
  switch (node.op) {
    case Op::linear:
      if (node.has("residual")) return take_residual_off(node, rewrite);
      if (node.has("norm")) return take_norm_off(node, rewrite);
      if (node.text_attr("epilogue") == "swiglu") return take_swiglu_off(graph, node, rewrite);
      return std::nullopt;
    case Op::rope_attention:
      return take_rope_off(node, rewrite);
    case Op::rope_kv_write:
      return split_rope_kv_write(graph, node, rewrite);
    case Op::cluster:
      return take_out(graph, node, rewrite);
    case Op::greedy_split:
      return std::vector<Node>{{Op::greedy, {node.operand("logits")}, {node.result("out")}}};
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
