// Sequences that decode and prompts, each by a kernel of their own; the second launch fills the
// rows of the result that the first left.
//   %y = attention %q, %kc, %vc, ...      =>   %p = attention %q, %kc, %vc, ... {rows = prompt}
//                                              %y = attention %q, %kc, %vc, ..., into = %p
//                                                             {rows = decode}
//   %y, %kc1, %vc1 =                      =>   %q, %kc2, %vc2 = rope_kv_write %x, ..., %kc, %vc
//       rope_attention %x, ..., %kc, %vc       %p = attention %q, %kc2, %vc2, ... {rows = prompt}
//                                              %y, %kc1, %vc1 = rope_attention %x, ..., %kc2, %vc2,
//                                                                 into = %p {rows = decode}
// Prompts first: the kernel of decoding steps then is the last to write its rows' keys and values,
// whatever else the step holds; and what it reads before it waits for the launch before it, old
// keys and values, is written by neither of the two before.
#include "graph/passes/passes.h"

namespace nereid::graph {

namespace {

Node of_prompts(Node attention, passes::Rewrite& rewrite) {
  attention.set_attr("rows", std::string("prompt"));
  attention.outputs = {rewrite.fresh()};
  return attention;
}

Node of_decodes(Node node, const Node& prompts) {
  node.set_attr("rows", std::string("decode"));
  node.set_operand("into", prompts.result("out"));
  return node;
}

}  // namespace

Graph split_attention(const Graph& graph) {
  passes::Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (node.row().find_attr("rows") == nullptr || node.text_attr("rows") != "all") continue;
    if (node.op == Op::attention) {
      auto prompts = of_prompts(node, rewrite);
      auto decodes = of_decodes(node, prompts);
      rewrite.replace(node, {std::move(prompts), std::move(decodes)});
      continue;
    }
    Node write(Op::rope_kv_write, {}, {rewrite.fresh(), rewrite.fresh(), rewrite.fresh()});
    write.adopt(node);
    Node attention(Op::attention, {});
    attention.adopt(node);
    attention.set_operand("q", write.result("q"));
    auto rest = node;
    for (auto* reader : {&attention, &rest})
      for (const char* cache : {"k_cache", "v_cache"})
        reader->set_operand(cache, write.result(cache));
    auto prompts = of_prompts(std::move(attention), rewrite);
    auto decodes = of_decodes(std::move(rest), prompts);
    rewrite.replace(node, {std::move(write), std::move(prompts), std::move(decodes)});
  }
  return rewrite.apply();
}

}  // namespace nereid::graph
