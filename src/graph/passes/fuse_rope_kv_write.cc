//   %q, %k, %v = slices of %p, as heads
//   %q1 = rope (rms_norm %q, %gq)        <=>   %q1, %kc1, %vc1 = rope_kv_write %p, ...,
//   %k1 = rope (rms_norm %k, %gk)                                q_norm = %gq, k_norm = %gk
//   %kc1, %vc1 = kv_write %k1, %v, ...
#include <optional>

#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

namespace {

// The way from a packed projection to heads: slice, reshape, and for q and k a norm perhaps and
// RoPE.
struct Branch {
  const Node* rope = nullptr;
  const Node* norm = nullptr;
  const Node* reshape = nullptr;
  const Node* slice = nullptr;

  std::vector<const Node*> nodes() const {
    std::vector<const Node*> all;
    for (const auto* node : {rope, norm, reshape, slice})
      if (node != nullptr) all.push_back(node);
    return all;
  }
};

// Walks up from the value; nothing where a step is missing or is read by others as well.
std::optional<Branch> branch_of(const Uses& uses, ValueId id, bool has_rope) {
  Branch branch;
  const auto up = [&](Op op, const Node*& node) {
    const auto* found = uses.producer(id, op);
    if (found == nullptr || uses.n_readers(id) != 1) return false;
    node = found;
    id = found->operand("x");
    return true;
  };
  if (has_rope && !up(Op::rope, branch.rope)) return std::nullopt;
  if (has_rope) static_cast<void>(up(Op::rms_norm, branch.norm));
  if (!up(Op::reshape, branch.reshape) || !up(Op::slice, branch.slice)) return std::nullopt;
  return branch;
}

struct Match {
  Branch q, k, v;
  const Node* write;
};

bool is_packed_qkv(const Graph& graph, const Uses& uses, const Match& match) {
  const auto n_cols = [&](const Branch& branch) {
    return graph.value(branch.slice->result("out")).shape[1].offset;
  };
  const auto begin = [](const Branch& branch) { return branch.slice->int_attr("begin"); };
  const auto packed = match.q.slice->operand("x");
  return match.k.slice->operand("x") == packed && match.v.slice->operand("x") == packed &&
         uses.n_readers(packed) == 3 && begin(match.q) == 0 && begin(match.k) == n_cols(match.q) &&
         begin(match.v) == n_cols(match.q) + n_cols(match.k) &&
         graph.value(packed).shape[1] == Dim(begin(match.v) + n_cols(match.v));
}

// One kernel takes one frequency table, one eps, and norms on both or none.
bool agree(const Match& match) {
  const auto& q = match.q;
  const auto& k = match.k;
  return q.rope->operand("positions") == k.rope->operand("positions") &&
         q.rope->operand("inv_freq") == k.rope->operand("inv_freq") &&
         (q.norm == nullptr) == (k.norm == nullptr) &&
         (q.norm == nullptr || q.norm->attrs == k.norm->attrs);
}

std::optional<Match> match_of(const Graph& graph, const Uses& uses, const Node& attention) {
  const auto* write = uses.producer(attention.operand("k_cache"), Op::kv_write);
  if (write == nullptr || attention.operand("v_cache") != write->result("v_cache"))
    return std::nullopt;
  const auto q = branch_of(uses, attention.operand("q"), true);
  const auto k = branch_of(uses, write->operand("k"), true);
  const auto v = branch_of(uses, write->operand("v"), false);
  if (!q || !k || !v) return std::nullopt;
  const Match match{*q, *k, *v, write};
  if (!is_packed_qkv(graph, uses, match) || !agree(match)) return std::nullopt;
  return match;
}

}  // namespace

Graph fuse_rope_kv_write(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::attention) continue;
    const auto match = match_of(graph, uses, node);
    if (!match) continue;
    const auto& [q, k, v, write] = *match;
    Node fused(Op::rope_kv_write, {},
               {node.operand("q"), write->result("k_cache"), write->result("v_cache")});
    fused.adopt(*q.rope);
    fused.adopt(*write);
    fused.set_operand("qkv", q.slice->operand("x"));
    fused.set_attr("heads", graph.value(node.operand("q")).shape[1].offset);
    if (q.norm != nullptr) {
      fused.set_operand("q_norm", q.norm->operand("weight"));
      fused.set_operand("k_norm", k.norm->operand("weight"));
      fused.set_attr("eps", q.norm->attr("eps"));
    }
    for (const auto* branch : {&q, &k, &v})
      for (const auto* step : branch->nodes()) rewrite.remove(*step);
    rewrite.remove(*write);
    rewrite.replace(node, {std::move(fused), node});
  }
  return rewrite.apply();
}

Undone undo_fuse_rope_kv_write(const Uses& uses, const Node& node, Rewrite& rewrite) {
  if (node.op != Op::rope_kv_write) return std::nullopt;
  const auto& cache = uses.graph().value(node.operand("k_cache")).shape;
  const auto head_dim = cache[3].offset;
  Nodes nodes;
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

}  // namespace nereid::graph::passes
