// Shape functions: result types from operand types, no data. One function an op, found by its row.

#include <algorithm>
#include <bit>
#include <string>

#include "base/error.h"
#include "graph/cluster.h"
#include "graph/ir.h"

namespace nereid::graph {

namespace {

// The operands of one node, with messages that name op and role.
class Operands {
 public:
  Operands(const Graph& graph, const Node& node)
      : graph_(graph), node_(node), row_(op_row(node.op)) {
    if (row_.is_variadic() && node.inputs.empty())
      throw Error("{}: expected the operands {}, got none", row_.name, roles_text(row_.operands));
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] == kNoValue && !role(i).is_optional)
        throw Error("{}: operand {} is missing; expected the operands {}", row_.name, role(i).name,
                    roles_text(row_.operands));
  }

  const Value& operator[](std::size_t i) const { return graph_.value(node_.inputs[i]); }
  std::size_t index(std::string_view role) const { return row_.find_operand(role).value(); }
  bool has(std::size_t i) const { return node_.inputs[i] != kNoValue; }
  const Node& node() const { return node_; }
  const Graph& graph() const { return graph_; }

  [[noreturn]] void fail(std::size_t i, const std::string& expected) const {
    throw Error("{}: operand {} (%{}): expected {}, got {}{}", row_.name, role(i).name,
                (*this)[i].name, expected, dtype_name((*this)[i].dtype),
                dims_text((*this)[i].shape));
  }
  void rank(std::size_t i, std::size_t n) const {
    if ((*this)[i].shape.size() != n) fail(i, fmt::format("{} dimensions", n));
  }
  void floats(std::size_t i) const {
    if (!dtype_row((*this)[i].dtype).is_float) fail(i, "a floating-point type");
  }
  void dtype(std::size_t i, DType wanted) const {
    if ((*this)[i].dtype != wanted) fail(i, std::string(dtype_name(wanted)));
  }
  void shape(std::size_t i, const std::vector<Dim>& wanted) const {
    if ((*this)[i].shape != wanted) fail(i, "shape " + dims_text(wanted));
  }

 private:
  const Role& role(std::size_t i) const { return row_.operands[row_.is_variadic() ? 0 : i]; }

  const Graph& graph_;
  const Node& node_;
  const OpRow& row_;
};

using Types = std::vector<TypedShape>;

Types infer_gather_rows(const Operands& in) {
  in.rank(0, 2);
  in.floats(0);
  in.rank(1, 1);
  in.dtype(1, DType::i32);
  const auto out = in.node().dtype_attr("dtype").value_or(in[0].dtype);
  return {{out, {in[1].shape[0], in[0].shape[1]}}};
}

Types infer_rms_norm(const Operands& in) {
  in.floats(0);
  if (in[0].shape.empty()) in.fail(0, "at least one dimension");
  in.shape(1, {in[0].shape.back()});
  in.floats(1);
  return {{in[0].dtype, in[0].shape}};
}

// Swiglu halves the rows of weight.
Types infer_linear(const Operands& in) {
  const auto weight = in.index("weight");
  in.rank(0, 2);
  in.floats(0);
  in.rank(weight, 2);
  in.floats(weight);
  const auto& rows = in[weight].shape[0];
  const auto& cols = in[0].shape[1];
  if (in[weight].shape[1] != cols) in.fail(weight, fmt::format("shape [N, {}]", dim_text(cols)));
  const bool is_swiglu = in.node().text_attr("epilogue") == "swiglu";
  if (is_swiglu && (!rows.is_constant() || rows.offset % 2 != 0))
    in.fail(weight, "an even number of rows");
  if (const auto norm = in.index("norm"); in.has(norm)) {
    in.floats(norm);
    in.shape(norm, {cols});
  }
  if (const auto bias = in.index("bias"); in.has(bias)) in.shape(bias, {rows});
  if (const auto scale = in.index("scale"); in.has(scale)) {
    in.dtype(scale, DType::fp32);
    in.shape(scale, {rows});
  }
  const TypedShape out{in.node().dtype_attr("dtype").value_or(in[0].dtype),
                       {in[0].shape[0], is_swiglu ? Dim(rows.offset / 2) : rows}};
  if (const auto residual = in.index("residual"); in.has(residual)) {
    if (is_swiglu) in.fail(residual, "none beside epilogue = swiglu");
    in.dtype(residual, out.dtype);
    in.shape(residual, out.shape);
  }
  return {out};
}

Types infer_rope(const Operands& in) {
  in.rank(0, 3);
  in.floats(0);
  in.dtype(1, DType::i32);
  in.shape(1, {in[0].shape[0]});
  in.dtype(2, DType::fp32);
  in.shape(2, {Dim(in[0].shape[2].offset / 2)});
  return {{in[0].dtype, in[0].shape}};
}

Types infer_kv_write(const Operands& in) {
  in.rank(0, 3);
  in.shape(1, in[0].shape);
  in.dtype(2, DType::i32);
  in.shape(2, {in[0].shape[0]});
  in.rank(3, 4);  // [n_blocks, n_kv_heads, block_tokens, head_dim]
  if (in[3].shape[1] != in[0].shape[1] || in[3].shape[3] != in[0].shape[2])
    in.fail(3, fmt::format("shape [blocks, {}, tokens, {}]", dim_text(in[0].shape[1]),
                           dim_text(in[0].shape[2])));
  in.shape(4, in[3].shape);
  return {{in[3].dtype, in[3].shape}, {in[4].dtype, in[4].shape}};
}

Types infer_attention(const Operands& in) {
  in.rank(0, 3);
  in.floats(0);
  in.rank(1, 4);
  in.shape(2, in[1].shape);
  const auto& heads = in[0].shape[1];
  const auto& kv_heads = in[1].shape[1];
  if (!heads.is_constant() || !kv_heads.is_constant() || kv_heads.offset <= 0 ||
      heads.offset % kv_heads.offset != 0)
    in.fail(1, fmt::format("a number of heads that divides {}", dim_text(heads)));
  if (in[1].shape[3] != in[0].shape[2])
    in.fail(1, fmt::format("head dimension {}", dim_text(in[0].shape[2])));
  in.rank(3, 2);
  in.dtype(3, DType::i32);
  in.shape(4, {Dim(Symbol::n_sequences, 1, 1)});
  in.dtype(4, DType::i32);
  in.shape(5, {Symbol::n_sequences});
  in.dtype(5, DType::i32);
  return {{in[0].dtype, in[0].shape}};
}

Types infer_silu_mul(const Operands& in) {
  in.rank(0, 2);
  in.floats(0);
  in.shape(1, in[0].shape);
  in.dtype(1, in[0].dtype);
  return {{in[0].dtype, in[0].shape}};
}

Types infer_add(const Operands& in) { return infer_silu_mul(in); }

Types infer_scale(const Operands& in) {
  in.rank(0, 2);
  in.floats(0);
  return {{in[0].dtype, in[0].shape}};
}

// [T, H*D] -> [T, H, D] with the attribute "heads"; without it [T, H, D] -> [T, H*D].
Types infer_reshape(const Operands& in) {
  const auto heads = in.node().int_attr("heads");
  const auto& shape = in[0].shape;
  if (heads > 0) {
    in.rank(0, 2);
    if (!shape[1].is_constant() || shape[1].offset % heads != 0)
      in.fail(0, fmt::format("columns that are a multiple of {}", heads));
    return {{in[0].dtype, {shape[0], heads, shape[1].offset / heads}}};
  }
  in.rank(0, 3);
  std::int64_t n_cols = 0;
  if (!shape[1].is_constant() || !shape[2].is_constant() ||
      __builtin_mul_overflow(shape[1].offset, shape[2].offset, &n_cols))
    in.fail(0, "constant heads");
  return {{in[0].dtype, {shape[0], n_cols}}};
}

Types infer_mark_seen(const Operands& in) {
  in.rank(0, 1);
  in.dtype(0, DType::i32);
  in.shape(1, in[0].shape);
  in.dtype(1, DType::i32);
  in.rank(2, 2);
  in.dtype(2, DType::u8);
  return {{in[2].dtype, in[2].shape}};
}

Types infer_greedy(const Operands& in) {
  in.rank(0, 2);
  in.floats(0);
  return {{DType::i32, {in[0].shape[0]}}};
}

// The last result is scratch: the best of each part, as value and index.
Types infer_greedy_split(const Operands& in) {
  auto types = infer_greedy(in);
  in.dtype(1, DType::i32);
  in.shape(1, {in[0].shape[0]});
  types.push_back({DType::fp32, {in[0].shape[0], 2, kMaxGreedyParts}});
  return types;
}

Types infer_sample(const Operands& in) {
  for (std::size_t i = 1; i <= 8; ++i) in.shape(i, {in[0].shape[0]});
  return infer_greedy(in);
}

Types infer_token_logprob(const Operands& in) {
  in.rank(0, 2);
  in.floats(0);
  in.dtype(1, DType::i32);
  in.shape(1, {in[0].shape[0]});
  return {{DType::fp32, {in[0].shape[0]}}};
}

// Rows of several matrices, or entries of several vectors, below one another.
Types infer_pack(const Operands& in) {
  auto shape = in[0].shape;
  if (shape.empty() || shape.size() > 2) in.fail(0, "a matrix or a vector");
  for (std::size_t i = 1; i < in.node().inputs.size(); ++i) {
    in.dtype(i, in[0].dtype);
    in.rank(i, shape.size());
    if (shape.size() == 2 && in[i].shape[1] != shape[1])
      in.fail(i, fmt::format("{} columns", dim_text(shape[1])));
    if (!in[i].shape[0].is_constant()) in.fail(i, "constant rows");
    shape[0].offset += in[i].shape[0].offset;
  }
  for (std::size_t i = 0; i < in.node().inputs.size(); ++i)
    if (in[i].kind != ValueKind::weight) in.fail(i, "a weight");
  return {{in[0].dtype, shape}};
}

// [T, N] -> columns begin .. begin + size.
Types infer_slice(const Operands& in) {
  in.rank(0, 2);
  const auto begin = in.node().int_attr("begin");
  const auto size = in.node().int_attr("size");
  const auto& n_cols = in[0].shape[1];
  if (begin < 0 || size < 1 || !n_cols.is_constant() || size > n_cols.offset ||
      begin > n_cols.offset - size)
    in.fail(0, fmt::format("columns {} to {}", begin, begin + size));
  return {{in[0].dtype, {in[0].shape[0], size}}};
}

// What rope_kv_write and rope_attention share: qkv [T, (H + 2 G) Dh] and what is done to it.
// `q_norm`: the operand's number. Returns [T, H, Dh].
std::vector<Dim> rope_queries(const Operands& in, std::size_t q_norm) {
  in.rank(0, 2);
  in.floats(0);
  for (const std::size_t i : {1, 3}) {
    in.dtype(i, DType::i32);
    in.shape(i, {in[0].shape[0]});
  }
  in.rank(4, 4);  // [n_blocks, n_kv_heads, block_tokens, head_dim]
  in.shape(5, in[4].shape);
  const auto heads = in.node().int_attr("heads");
  const auto kv_heads = in[4].shape[1].offset;
  const auto head_dim = in[4].shape[3].offset;
  if (heads < 1 || kv_heads < 1 || heads % kv_heads != 0)
    in.fail(4, fmt::format("a number of heads that divides {}", heads));
  in.dtype(2, DType::fp32);
  in.shape(2, {head_dim / 2});
  if (in[0].shape[1] != Dim((heads + 2 * kv_heads) * head_dim))
    in.fail(0, fmt::format("{} columns", (heads + 2 * kv_heads) * head_dim));
  for (const std::size_t i : {q_norm, q_norm + 1})
    if (in.has(i)) in.shape(i, {head_dim});
  return {in[0].shape[0], heads, head_dim};
}

Types infer_rope_kv_write(const Operands& in) {
  return {
      {in[0].dtype, rope_queries(in, 6)}, {in[4].dtype, in[4].shape}, {in[5].dtype, in[5].shape}};
}

// The last result is scratch: what each part of a sequence's keys gives, until they are combined.
Types infer_rope_attention(const Operands& in) {
  const auto queries = rope_queries(in, 10);
  in.rank(6, 2);
  in.dtype(6, DType::i32);
  in.shape(7, {Dim(Symbol::n_sequences, 1, 1)});
  in.dtype(7, DType::i32);
  in.shape(8, {Symbol::n_sequences});
  in.dtype(8, DType::i32);
  in.dtype(9, DType::i32);
  in.shape(9, {Symbol::n_sequences, queries[1]});
  const auto padded =
      std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(queries[2].offset, 16)));
  return {{in[0].dtype, queries},
          {in[4].dtype, in[4].shape},
          {in[5].dtype, in[5].shape},
          {DType::fp32,
           {Symbol::n_sequences, queries[1], kMaxAttentionSplits,
            static_cast<std::int64_t>(padded) + 2}}};
}

Types infer_cluster(const Operands& in) {
  const Graph body = cluster_body(in.graph(), in.node());
  Types types;
  for (const auto id : body.outputs) types.push_back({body.value(id).dtype, body.value(id).shape});
  return types;
}

}  // namespace

std::vector<TypedShape> infer_shapes(const Graph& graph, const Node& node) {
  const Operands operands(graph, node);
  switch (node.op) {
#define GRAPH_OP(name, ...) \
  case Op::name:            \
    return infer_##name(operands);
#include "graph/ops.def"
#undef GRAPH_OP
  }
  NEREID_UNREACHABLE("op {}", static_cast<int>(node.op));
}

}  // namespace nereid::graph
