#include "graph/lower.h"

#include <utility>

#include "base/error.h"
#include "graph/cluster.h"
#include "graph/memory_plan.h"
#include "graph/triton_source.h"

namespace nereid::graph {

namespace {

Dim product(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return a.offset * b.offset;
  const auto& [symbolic, constant] = a.is_constant() ? std::pair(b, a) : std::pair(a, b);
  NEREID_CHECK(constant.is_constant() && symbolic.offset == 0, "{} * {}", dim_text(a), dim_text(b));
  return {symbolic.symbol, symbolic.factor * constant.offset, 0};
}

// All elements but those of the last dimension.
Dim leading(const std::vector<Dim>& shape) {
  Dim rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows = product(rows, shape[i]);
  return rows;
}

// One node's operands, seen by role.
struct View {
  const Graph& graph;
  const Node& node;
  const StepClass& steps;

  ValueId in(std::size_t i) const { return i < node.inputs.size() ? node.inputs[i] : kNoValue; }
  ValueId out(std::size_t i = 0) const { return node.outputs[i]; }
  const std::vector<Dim>& shape(ValueId id) const { return graph.value(id).shape; }
  // In elements, from a row (a token) to the next.
  Dim stride(ValueId id) const { return row_elements(graph, id); }
};

KernelCall lower_gather_rows(const View& v) {
  const auto& out = v.shape(v.out());
  return {"gather_rows",
          {{"out_ptr", v.out()}, {"table_ptr", v.in(0)}, {"ids_ptr", v.in(1)}},
          {{"n_rows", out[0]}, {"n_cols", out[1]}, {"table_stride", out[1]}},
          {{"scale", v.node.float_attr("scale")}},
          {}};
}

// Heads of [T, H, Dh] are rows of their own.
KernelCall lower_rms_norm(const View& v) {
  const auto& shape = v.shape(v.out());
  return {"rms_norm",
          {{"out_ptr", v.out()}, {"x_ptr", v.in(0)}, {"weight_ptr", v.in(1)}},
          {{"n_rows", leading(shape)},
           {"n_cols", shape.back()},
           {"group", shape.size() == 3 ? shape[1] : Dim(1)},
           {"out_stride", v.stride(v.out())},
           {"x_stride", v.stride(v.in(0))}},
          {{"eps", v.node.float_attr("eps")}},
          {}};
}

// Of the operand that a linear reads.
std::int64_t max_rows(const Graph& graph, const Node& node, const StepClass& steps) {
  const bool is_logits = graph.value(node.operand("x")).shape[0].symbol == Symbol::n_logits;
  return is_logits ? steps.max_logits : steps.max_tokens;
}

KernelCall lower_linear(const View& v) {
  const auto& node = v.node;
  if (node.has("scale"))
    throw Error("linear %{}: no kernel takes the operand scale (%{}); expected a weight without",
                v.graph.value(v.out()).name, v.graph.value(node.operand("scale")).name);
  const auto x = node.operand("x");
  const auto residual = node.operand("residual");
  const auto& out = v.shape(v.out());
  const auto rows = max_rows(v.graph, node, v.steps);
  const bool is_gemv = rows <= kGemvRows.back();
  const bool is_skinny = !is_gemv && rows <= kSkinnyRows.back() && v.steps.family != "cpu";
  KernelCall call{is_gemv     ? "linear_gemv"
                  : is_skinny ? "linear_skinny"
                              : "linear_tiled",
                  {{"y_ptr", v.out()},
                   {"x_ptr", x},
                   {"w_ptr", node.operand("weight")},
                   {"bias_ptr", node.operand("bias")},
                   {"residual_ptr", residual}},
                  {{"n_rows", out[0]},
                   {"n_out", out[1]},
                   {"n_in", v.shape(x)[1]},
                   {"y_stride", v.stride(v.out())},
                   {"x_stride", v.stride(x)},
                   {"residual_stride", residual == kNoValue ? out[1] : v.stride(residual)}},
                  {{"alpha", node.float_attr("alpha")}},
                  {{"HAS_BIAS", node.has("bias") ? 1 : 0},
                   {"HAS_RESIDUAL", residual == kNoValue ? 0 : 1},
                   {"SWIGLU", node.text_attr("epilogue") == "swiglu" ? 1 : 0}}};
  if (is_gemv) {
    call.pointers.emplace_back("norm_ptr", node.operand("norm"));
    call.scalars.emplace_back("eps", node.float_attr("eps"));
    call.constexprs.emplace_back("HAS_NORM", node.has("norm") ? 1 : 0);
    call.constexprs.emplace_back("ROWS", rows);
  }
  if (is_skinny) call.constexprs.emplace_back("TOKENS", rows);
  return call;
}

KernelCall lower_rope(const View& v) {
  const auto& shape = v.shape(v.out());  // [T, H, Dh]
  return {"rope",
          {{"out_ptr", v.out()},
           {"x_ptr", v.in(0)},
           {"positions_ptr", v.in(1)},
           {"inv_freq_ptr", v.in(2)}},
          {{"n_tokens", shape[0]},
           {"n_heads", shape[1]},
           {"head_dim", shape[2]},
           {"out_stride", v.stride(v.out())},
           {"x_stride", v.stride(v.in(0))}},
          {},
          {}};
}

KernelCall lower_kv_write(const View& v) {
  const auto& k = v.shape(v.in(0));      // [T, G, Dh]
  const auto& cache = v.shape(v.in(3));  // [blocks, G, block tokens, Dh]
  return {"kv_write",
          {{"k_cache_ptr", v.in(3)},
           {"v_cache_ptr", v.in(4)},
           {"k_ptr", v.in(0)},
           {"v_ptr", v.in(1)},
           {"slot_mapping_ptr", v.in(2)}},
          {{"n_tokens", k[0]},
           {"n_kv_heads", k[1]},
           {"head_dim", k[2]},
           {"k_stride", v.stride(v.in(0))},
           {"v_stride", v.stride(v.in(1))}},
          {},
          {{"BLOCK_TOKENS", cache[2].offset}}};
}

KernelCall lower_attention(const View& v) {
  const auto& q = v.shape(v.in(0));       // [T, H, Dh]
  const auto& cache = v.shape(v.in(1));   // [blocks, G, block tokens, Dh]
  const auto& tables = v.shape(v.in(3));  // [S, B]
  KernelCall call{
      v.steps.is_decode ? "attention_decode" : "attention_prefill",
      {{"out_ptr", v.out()},
       {"q_ptr", v.in(0)},
       {"k_cache_ptr", v.in(1)},
       {"v_cache_ptr", v.in(2)},
       {"block_tables_ptr", v.in(3)},
       {"context_lens_ptr", v.in(5)}},
      {{"n_seqs", Symbol::n_sequences},
       {"n_heads", q[1]},
       {"n_kv_heads", cache[1]},
       {"max_blocks", tables[1]},
       {"window", v.node.int_attr("window")},
       {"out_stride", v.stride(v.out())},
       {"q_stride", v.stride(v.in(0))}},
      {{"scale", v.node.float_attr("scale")}, {"softcap", v.node.float_attr("softcap")}},
      {{"HEAD_DIM", q[2].offset},
       {"BLOCK_TOKENS", cache[2].offset},
       {"HAS_SOFTCAP", v.node.float_attr("softcap") != 0.0 ? 1 : 0}}};
  if (!v.steps.is_decode) {
    call.pointers.emplace_back("cu_seqlens_ptr", v.in(4));
    call.sizes.emplace_back("max_q_len", Symbol::max_query_tokens);
  }
  return call;
}

KernelCall lower_rope_kv_write(const View& v) {
  const auto& q = v.shape(v.out());      // [T, H, Dh]
  const auto& cache = v.shape(v.in(4));  // [blocks, G, block tokens, Dh]
  const bool has_norm = v.in(6) != kNoValue;
  return {"rope_kv_write",
          {{"q_ptr", v.out()},
           {"k_cache_ptr", v.in(4)},
           {"v_cache_ptr", v.in(5)},
           {"qkv_ptr", v.in(0)},
           {"q_norm_ptr", v.in(6)},
           {"k_norm_ptr", v.in(7)},
           {"positions_ptr", v.in(1)},
           {"inv_freq_ptr", v.in(2)},
           {"slots_ptr", v.in(3)}},
          {{"n_tokens", q[0]},
           {"n_heads", q[1]},
           {"n_kv_heads", cache[1]},
           {"q_stride", v.stride(v.out())},
           {"qkv_stride", v.stride(v.in(0))}},
          {{"qk_eps", v.node.float_attr("eps")}},
          {{"HEAD_DIM", q[2].offset},
           {"BLOCK_TOKENS", cache[2].offset},
           {"HAS_QK_NORM", has_norm ? 1 : 0}}};
}

// Decoding only: a sequence is a row.
KernelCall lower_rope_attention(const View& v) {
  const auto& out = v.shape(v.out());     // [T, H, Dh]
  const auto& cache = v.shape(v.in(4));   // [blocks, G, block tokens, Dh]
  const auto& tables = v.shape(v.in(6));  // [S, B]
  const double softcap = v.node.float_attr("softcap");
  return {"attention_decode_fused",
          {{"out_ptr", v.out()},
           {"k_cache_ptr", v.in(4)},
           {"v_cache_ptr", v.in(5)},
           {"partial_ptr", v.out(3)},
           {"arrivals_ptr", v.in(9)},
           {"qkv_ptr", v.in(0)},
           {"q_norm_ptr", v.in(10)},
           {"k_norm_ptr", v.in(11)},
           {"positions_ptr", v.in(1)},
           {"inv_freq_ptr", v.in(2)},
           {"slots_ptr", v.in(3)},
           {"block_tables_ptr", v.in(6)},
           {"context_lens_ptr", v.in(8)}},
          {{"n_seqs", Symbol::n_sequences},
           {"n_heads", out[1]},
           {"n_kv_heads", cache[1]},
           {"max_blocks", tables[1]},
           {"window", v.node.int_attr("window")},
           {"out_stride", v.stride(v.out())},
           {"qkv_stride", v.stride(v.in(0))}},
          {{"scale", v.node.float_attr("scale")},
           {"softcap", softcap},
           {"qk_eps", v.node.float_attr("eps")}},
          {{"HEAD_DIM", out[2].offset},
           {"BLOCK_TOKENS", cache[2].offset},
           {"HAS_SOFTCAP", softcap != 0.0 ? 1 : 0},
           {"HAS_QK_NORM", v.in(10) != kNoValue ? 1 : 0}}};
}

KernelCall lower_silu_mul(const View& v) {
  const auto& shape = v.shape(v.out());
  return {"silu_mul",
          {{"out_ptr", v.out()}, {"gate_ptr", v.in(0)}, {"up_ptr", v.in(1)}},
          {{"n_rows", shape[0]},
           {"n_cols", shape[1]},
           {"gate_stride", v.stride(v.in(0))},
           {"up_stride", v.stride(v.in(1))}},
          {},
          {}};
}

KernelCall lower_add(const View& v) {
  const auto& shape = v.shape(v.out());
  return {"add",
          {{"out_ptr", v.out()}, {"x_ptr", v.in(0)}, {"y_ptr", v.in(1)}},
          {{"n_elements", product(shape[0], shape[1])}},
          {{"alpha", v.node.float_attr("alpha")}},
          {}};
}

KernelCall lower_scale(const View& v) {
  const auto& shape = v.shape(v.out());
  return {"scale",
          {{"out_ptr", v.out()}, {"x_ptr", v.in(0)}},
          {{"n_elements", product(shape[0], shape[1])}},
          {{"alpha", v.node.float_attr("alpha")}},
          {}};
}

KernelCall lower_mark_seen(const View& v) {
  return {"mark_seen",
          {{"seen_ptr", v.in(2)}, {"ids_ptr", v.in(0)}, {"slots_ptr", v.in(1)}},
          {{"n_tokens", v.shape(v.in(0))[0]}, {"seen_stride", v.shape(v.in(2))[1]}},
          {},
          {}};
}

KernelCall lower_greedy(const View& v) {
  const auto& logits = v.shape(v.in(0));
  return {"greedy",
          {{"out_ptr", v.out()}, {"logits_ptr", v.in(0)}},
          {{"n_rows", logits[0]}, {"n_vocab", logits[1]}, {"logits_stride", logits[1]}},
          {},
          {}};
}

KernelCall lower_greedy_split(const View& v) {
  auto call = lower_greedy(v);
  call.kernel = "greedy_split";
  call.pointers.emplace_back("partial_ptr", v.out(1));
  call.pointers.emplace_back("arrivals_ptr", v.in(1));
  return call;
}

KernelCall lower_sample(const View& v) {
  const auto& logits = v.shape(v.in(0));
  const bool has_penalty = v.in(9) != kNoValue;
  return {"sample",
          {{"out_ptr", v.out()},
           {"logits_ptr", v.in(0)},
           {"temperature_ptr", v.in(1)},
           {"top_k_ptr", v.in(2)},
           {"top_p_ptr", v.in(3)},
           {"min_p_ptr", v.in(4)},
           {"penalty_ptr", v.in(5)},
           {"seed_ptr", v.in(6)},
           {"step_ptr", v.in(7)},
           {"slots_ptr", v.in(8)},
           {"seen_ptr", v.in(9)}},
          {{"n_rows", logits[0]},
           {"n_vocab", logits[1]},
           {"logits_stride", logits[1]},
           {"seen_stride", logits[1]}},
          {},
          {{"HAS_PENALTY", has_penalty ? 1 : 0}}};
}

KernelCall lower_token_logprob(const View& v) {
  const auto& logits = v.shape(v.in(0));
  return {"token_logprob",
          {{"out_ptr", v.out()}, {"logits_ptr", v.in(0)}, {"targets_ptr", v.in(1)}},
          {{"n_rows", logits[0]}, {"n_vocab", logits[1]}, {"logits_stride", logits[1]}},
          {},
          {}};
}

// The kernel's parameters are named as the values of the body.
KernelCall lower_cluster(const View& v) {
  const Graph body = with_plain_names(cluster_body(v.graph, v.node));
  auto generated = generate_kernel(body);
  const auto& shape = v.shape(v.out());
  KernelCall call{
      generated->spec.name, {}, {{"n_rows", leading(shape)}, {"n_cols", shape.back()}}, {}, {}};
  if (shape.size() == 3) call.sizes.emplace_back("group", shape[1]);  // heads are rows
  const auto name = [&](ValueId id) { return body.value(id).name; };
  for (std::size_t i = 0; i < body.outputs.size(); ++i)
    call.pointers.emplace_back(name(body.outputs[i]) + "_ptr", v.out(i));
  for (std::size_t i = 0; i < v.node.inputs.size(); ++i) {
    const auto operand = name(static_cast<ValueId>(i));
    call.pointers.emplace_back(operand + "_ptr", v.in(i));
    if (generated->spec.find_param(operand + "_stride") != nullptr)
      call.sizes.emplace_back(operand + "_stride", v.stride(v.in(i)));
  }
  call.generated = std::move(generated);
  return call;
}

[[noreturn]] KernelCall lower_nothing(const View& v) {
  NEREID_UNREACHABLE("%{}: {} has no kernel", v.graph.value(v.out()).name, op_row(v.node.op).name);
}
KernelCall lower_reshape(const View& v) { lower_nothing(v); }
KernelCall lower_slice(const View& v) { lower_nothing(v); }
KernelCall lower_pack(const View& v) { lower_nothing(v); }

}  // namespace

bool has_kernel(const Graph& graph, const Node& node, const StepClass& steps) {
  switch (node.op) {
    // A product of many rows would normalise each row again in every tile.
    case Op::linear:
      return !node.has("norm") || max_rows(graph, node, steps) <= kGemvRows.back();
    case Op::rope_attention:
      return steps.is_decode;
    case Op::cluster:
      return can_generate(cluster_body(graph, node));
    // One thread reads a row as fast as several that must meet.
    case Op::greedy_split:
      return steps.family != "cpu";
    default:
      return true;
  }
}

std::optional<KernelCall> lower(const Graph& graph, const Node& node, const StepClass& steps) {
  if (!has_launch(op_row(node.op).op_class)) return std::nullopt;
  const View view{graph, node, steps};
  switch (node.op) {
#define GRAPH_OP(name, ...) \
  case Op::name:            \
    return lower_##name(view);
#include "graph/ops.def"
#undef GRAPH_OP
  }
  NEREID_UNREACHABLE("op {}", static_cast<int>(node.op));
}

}  // namespace nereid::graph
