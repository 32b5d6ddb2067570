// Shape functions: result types from operand types, no data. One function an op, found by its row.

#include <string>

#include "base/error.h"
#include "graph/ir.h"

namespace nereid::graph {

namespace {

// The operands of one node, with messages that name op and role.
class Operands {
 public:
  Operands(const Graph& graph, const Node& node)
      : graph_(graph), node_(node), row_(op_row(node.op)) {
    if (node.inputs.size() < row_.n_required || node.inputs.size() > row_.roles.size())
      throw Error("{}: expected {} operands, got {}", row_.name,
                  row_.n_required == row_.roles.size()
                      ? fmt::format("{}", row_.n_required)
                      : fmt::format("{} to {}", row_.n_required, row_.roles.size()),
                  node.inputs.size());
  }

  const Value& operator[](std::size_t i) const { return graph_.value(node_.inputs[i]); }
  bool has(std::size_t i) const { return i < node_.inputs.size(); }
  const Node& node() const { return node_; }

  [[noreturn]] void fail(std::size_t i, const std::string& expected) const {
    throw Error("{}: operand {} (%{}): expected {}, got {}{}", row_.name, row_.roles[i],
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
  const auto out = in.node().dtype_attr("dtype", in[0].dtype);
  return {{out, {in[1].shape[0], in[0].shape[1]}}};
}

Types infer_rms_norm(const Operands& in) {
  in.floats(0);
  if (in[0].shape.empty()) in.fail(0, "at least one dimension");
  in.shape(1, {in[0].shape.back()});
  in.floats(1);
  return {{in[0].dtype, in[0].shape}};
}

Types infer_linear(const Operands& in) {
  in.rank(0, 2);
  in.floats(0);
  in.rank(1, 2);
  in.floats(1);
  if (in[1].shape[1] != in[0].shape[1])
    in.fail(1, fmt::format("shape [N, {}]", dim_text(in[0].shape[1])));
  if (in.has(2)) in.shape(2, {in[1].shape[0]});
  const auto out = in.node().dtype_attr("dtype", in[0].dtype);
  return {{out, {in[0].shape[0], in[1].shape[0]}}};
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
  const auto heads = in.node().int_attr("heads", 0);
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
