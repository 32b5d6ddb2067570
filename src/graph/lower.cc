#include "graph/lower.h"

#include <utility>

#include "base/error.h"

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
};

KernelCall lower_gather_rows(const View& v) {
  const auto& out = v.shape(v.out());
  return {"gather_rows",
          {{"out_ptr", v.out()}, {"table_ptr", v.in(0)}, {"ids_ptr", v.in(1)}},
          {{"n_rows", out[0]}, {"n_cols", out[1]}, {"table_stride", out[1]}},
          {{"scale", v.node.float_attr("scale", 1.0)}},
          {}};
}

// Heads of [T, H, Dh] are rows of their own.
KernelCall lower_rms_norm(const View& v) {
  const auto& shape = v.shape(v.out());
  return {"rms_norm",
          {{"out_ptr", v.out()}, {"x_ptr", v.in(0)}, {"weight_ptr", v.in(1)}},
          {{"n_rows", leading(shape)},
           {"n_cols", shape.back()},
           {"group", 1},
           {"out_stride", shape.back()},
           {"x_stride", shape.back()}},
          {{"eps", v.node.float_attr("eps", 1e-5)}},
          {}};
}

KernelCall lower_linear(const View& v) {
  const auto& x = v.shape(v.in(0));
  const auto& weight = v.shape(v.in(1));
  const bool is_logits = x[0].symbol == Symbol::n_logits;
  const auto max_rows = is_logits ? v.steps.max_logits : v.steps.max_tokens;
  const bool is_gemv = max_rows <= kGemvRows.back();
  KernelCall call{
      is_gemv ? "linear_gemv" : "linear_tiled",
      {{"y_ptr", v.out()}, {"x_ptr", v.in(0)}, {"w_ptr", v.in(1)}, {"bias_ptr", v.in(2)}},
      {{"n_rows", x[0]},
       {"n_out", weight[0]},
       {"n_in", weight[1]},
       {"y_stride", weight[0]},
       {"x_stride", weight[1]}},
      {},
      {{"HAS_BIAS", v.in(2) != kNoValue ? 1 : 0}}};
  if (is_gemv) {
    call.constexprs.emplace_back("ROWS", max_rows);
  } else {
    call.pointers.emplace_back("residual_ptr", kNoValue);
    call.sizes.emplace_back("residual_stride", weight[0]);
    call.scalars.emplace_back("alpha", 1.0);
    call.constexprs.emplace_back("HAS_RESIDUAL", 0);
    call.constexprs.emplace_back("SWIGLU", 0);
  }
  return call;
}

KernelCall lower_rope(const View& v) {
  const auto& shape = v.shape(v.out());  // [T, H, Dh]
  const Dim row = product(shape[1], shape[2]);
  return {"rope",
          {{"out_ptr", v.out()},
           {"x_ptr", v.in(0)},
           {"positions_ptr", v.in(1)},
           {"inv_freq_ptr", v.in(2)}},
          {{"n_tokens", shape[0]},
           {"n_heads", shape[1]},
           {"head_dim", shape[2]},
           {"out_stride", row},
           {"x_stride", row}},
          {},
          {}};
}

KernelCall lower_kv_write(const View& v) {
  const auto& k = v.shape(v.in(0));      // [T, G, Dh]
  const auto& cache = v.shape(v.in(3));  // [blocks, G, block tokens, Dh]
  const Dim row = product(k[1], k[2]);
  return {"kv_write",
          {{"k_cache_ptr", v.in(3)},
           {"v_cache_ptr", v.in(4)},
           {"k_ptr", v.in(0)},
           {"v_ptr", v.in(1)},
           {"slot_mapping_ptr", v.in(2)}},
          {{"n_tokens", k[0]},
           {"n_kv_heads", k[1]},
           {"head_dim", k[2]},
           {"k_stride", row},
           {"v_stride", row}},
          {},
          {{"BLOCK_TOKENS", cache[2].offset}}};
}

KernelCall lower_attention(const View& v) {
  const auto& q = v.shape(v.in(0));       // [T, H, Dh]
  const auto& cache = v.shape(v.in(1));   // [blocks, G, block tokens, Dh]
  const auto& tables = v.shape(v.in(3));  // [S, B]
  const Dim row = product(q[1], q[2]);
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
       {"window", v.node.int_attr("window", 0)},
       {"out_stride", row},
       {"q_stride", row}},
      {{"scale", v.node.float_attr("scale", 1.0)}, {"softcap", v.node.float_attr("softcap", 0.0)}},
      {{"HEAD_DIM", q[2].offset},
       {"BLOCK_TOKENS", cache[2].offset},
       {"HAS_SOFTCAP", v.node.float_attr("softcap", 0.0) != 0.0 ? 1 : 0}}};
  if (!v.steps.is_decode) {
    call.pointers.emplace_back("cu_seqlens_ptr", v.in(4));
    call.sizes.emplace_back("max_q_len", Symbol::max_query_tokens);
  }
  return call;
}

KernelCall lower_silu_mul(const View& v) {
  const auto& shape = v.shape(v.out());
  return {"silu_mul",
          {{"out_ptr", v.out()}, {"gate_ptr", v.in(0)}, {"up_ptr", v.in(1)}},
          {{"n_rows", shape[0]},
           {"n_cols", shape[1]},
           {"gate_stride", shape[1]},
           {"up_stride", shape[1]}},
          {},
          {}};
}

KernelCall lower_add(const View& v) {
  const auto& shape = v.shape(v.out());
  return {"add",
          {{"out_ptr", v.out()}, {"x_ptr", v.in(0)}, {"y_ptr", v.in(1)}},
          {{"n_elements", product(shape[0], shape[1])}},
          {{"alpha", v.node.float_attr("alpha", 1.0)}},
          {}};
}

KernelCall lower_scale(const View& v) {
  const auto& shape = v.shape(v.out());
  return {"scale",
          {{"out_ptr", v.out()}, {"x_ptr", v.in(0)}},
          {{"n_elements", product(shape[0], shape[1])}},
          {{"alpha", v.node.float_attr("alpha", 1.0)}},
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

KernelCall lower_reshape(const View& v) {
  NEREID_UNREACHABLE("%{} is a view: it has no kernel", v.graph.value(v.out()).name);
}

}  // namespace

std::optional<KernelCall> lower(const Graph& graph, const Node& node, const StepClass& steps) {
  if (op_row(node.op).op_class == OpClass::view) return std::nullopt;
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
