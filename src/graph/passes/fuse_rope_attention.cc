//   %q, %kc, %vc = rope_kv_write %p, ...   <=>   %y, %kc, %vc = rope_attention %p, ...
//   %y = attention %q, %kc, %vc, ...
#include "graph/passes/passes.h"

namespace nereid::graph::passes {

namespace {

// rope_attention has no words for functions, for what they read and for sinks.
bool is_plain(const Node& attention) {
  return attention.text_attr("score").empty() && attention.text_attr("mask").empty() &&
         !attention.has("sinks");
}

}  // namespace

Graph fuse_rope_attention(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.op != Op::attention || !is_plain(node)) continue;
    const auto* write = uses.producer(node.operand("q"), Op::rope_kv_write);
    // The keys that it writes are those of all rows.
    const bool is_only_reader = write != nullptr && node.text_attr("rows") == "all" &&
                                uses.n_readers(write->result("q")) == 1 &&
                                node.operand("k_cache") == write->result("k_cache") &&
                                node.operand("v_cache") == write->result("v_cache");
    if (!is_only_reader) continue;
    Node fused(Op::rope_attention, {},
               {node.result("out"), write->result("k_cache"), write->result("v_cache")});
    fused.adopt(node);
    fused.adopt(*write);
    rewrite.remove(*write);
    rewrite.replace(node, {std::move(fused)});
  }
  return rewrite.apply();
}

Undone undo_fuse_rope_attention(const Uses&, const Node& node, Rewrite& rewrite) {
  if (node.op != Op::rope_attention) return std::nullopt;
  Node write(Op::rope_kv_write, {},
             {rewrite.fresh(), node.result("k_cache"), node.result("v_cache")});
  write.adopt(node);
  Node attention(Op::attention, {}, {node.result("out")});
  attention.adopt(node);
  attention.set_operand("q", write.result("q"));
  attention.set_operand("k_cache", write.result("k_cache"));
  attention.set_operand("v_cache", write.result("v_cache"));
  return Nodes{std::move(write), std::move(attention)};
}

}  // namespace nereid::graph::passes
