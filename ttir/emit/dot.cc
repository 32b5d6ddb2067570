// tt.dot: panels for the microkernel, and how much of them there is to multiply.
#include <algorithm>
#include <cmath>

#include "elementwise.h"
#include "emitter.h"

namespace nereid::ttir {

namespace {

bool is_zero(const Value& v) {
  if (v.def == nullptr) return false;
  if (v.def->kind == OpKind::splat) return is_zero(*v.def->operands[0]);
  if (v.def->kind != OpKind::constant) return false;
  const Attr& value = *v.def->attr("value");
  if (std::holds_alternative<double>(value)) {
    const double x = std::get<double>(value);
    return x == 0 && !std::signbit(x);
  }
  return std::holds_alternative<std::int64_t>(value) && std::get<std::int64_t>(value) == 0;
}

}  // namespace

// Rows and columns that masks make zero add nothing: a tile of 256 rows costs what its rows in use
// cost.
std::string Emitter::extent(const Value* v, int dim) {
  const std::string size = std::to_string(v->type.shape[dim]);
  const std::vector<Linear> counts = scope_.analysis.zero_from(v, dim);
  if (counts.empty()) return size;
  std::string text = cat("rt::least(", size);
  for (const Linear& c : counts) text += cat(", ", c.text());
  return text + ")";
}

bool Emitter::may_be_quads(const Value* v) {
  if (v->type.is_pointer || v->type.scalar != Scalar::i8 || v->type.shape.size() != 2) return false;
  return v->type.shape[0] % 4 == 0 && v->type.shape[1] % 16 == 0 &&
         std::all_of(v->users.begin(), v->users.end(), [&](const Op* user) {
           return user->kind == OpKind::dot && user->operands[1] == v && user->operands[0] != v &&
                  user->result()->type.scalar == Scalar::i32;
         });
}

// [K, N] from memory that is contiguous along K: sixteen columns at a time are read as rows, then
// turned, words of 32 bits: a float, or a quad of bytes.
void Emitter::fill_transposed(const Value* storage, const Value* value) {
  const std::int64_t k = storage->type.shape[0], n = storage->type.shape[1];
  const std::int64_t rows = std::min<std::int64_t>(n, 16);
  const bool is_quads = storage->type.scalar == Scalar::i8;
  const std::int64_t words = is_quads ? k / 4 : k;
  const std::string type = is_quads ? "std::int8_t" : "float";
  const auto as_words = [&](const std::string& p) {
    return is_quads ? cat("reinterpret_cast<float*>(", p, ")") : p;
  };
  if (is_quads) quads_.insert(storage);
  // Columns that are zero are not read by a dot.
  const bool only_dots = std::all_of(value->users.begin(), value->users.end(), [&](const Op* user) {
    return user->kind == OpKind::dot && user->operands[1] == value && user->operands[0] != value &&
           user->operands[2] != value;
  });
  const std::string columns = only_dots ? extent(value, 1) : std::to_string(n);
  const std::size_t mark = arena_;
  out_.open("{");
  const std::string strip = temporary("strip", type, static_cast<std::size_t>(rows * words) * 4);
  const std::string turn = cat("rt::transpose_strip<", std::to_string(words), ">(", as_words(strip),
                               ", ", as_words(scope_.storage_of(storage)));
  Nest nest(scope_);
  Coord column;
  if (n > rows) {
    const int outer =
        nest.add_loop(cat("for (std::int64_t n0 = 0; n0 < ", columns, "; n0 += 16) {"));
    nest.after(outer, cat(turn, " + n0, ", std::to_string(n), ", 16);"));
    const int inner = nest.add_loop("for (std::int64_t r = 0; r < 16; ++r) {");
    nest.line(inner, "const std::int64_t column = n0 + r;");
    column = {Coord::Kind::index, inner, "column"};
  } else {
    nest.after(0, cat(turn, ", ", std::to_string(n), ", ", std::to_string(n), ");"));
    const int inner =
        nest.add_loop(cat("for (std::int64_t r = 0; r < ", std::to_string(n), "; ++r) {"));
    column = {Coord::Kind::index, inner, "r"};
  }
  const Coords coords{nest.add_lanes(k, Walk::row), column};
  const Expr e = nest.eval_definition(value, coords);
  const std::string x = e.is_vector ? e.text : broadcast_text(e.text, value->type);
  nest.line(nest.innermost(),
            cat("rt::store(", strip, " + r * ", std::to_string(k), " + c, ", x,
                k < 16 ? cat(", rt::FirstN{", std::to_string(k), "}") : "", ");"));
  nest.write(out_);
  out_.close();
  arena_ = mark;
}

void Emitter::dot(const Op& o) {
  const Value* a = o.operands[0];
  const Value* b = o.operands[1];
  const Value* c = o.operands[2];
  const Value* d = o.result();
  const auto is_float_32 = [](Scalar s) { return s == Scalar::f32 || is_narrow(s); };
  const Scalar in = a->type.scalar, sum = d->type.scalar;
  // Promoted to fp32 and multiplied there; or in the type of the sum, from operands as they are.
  const bool is_fp32 = is_float_32(in) && is_float_32(b->type.scalar) && is_float_32(sum);
  const bool is_plain = in == b->type.scalar && ((in == Scalar::f64 && sum == Scalar::f64) ||
                                                 (in == Scalar::i8 && sum == Scalar::i32));
  if (!is_fp32 && !is_plain)
    refuse(scope_.where, o,
           cat(type_text(a->type), " * ", type_text(b->type), " -> ", type_text(d->type),
               " is not supported; expected floats, or i8 into i32"));
  const std::string data = declare_buffer(d);
  const bool is_quads = quads_.count(b) != 0;
  const bool is_sum = plan_.place(c) != Place::lazy || (!is_fp32 && !is_quads) ||
                      d->type.shape.size() != 2 || !is_zero(*c);
  if (is_sum && (plan_.place(c) == Place::lazy || plan_.home(c) != plan_.home(d))) fill({d}, {c});
  const std::size_t rank = d->type.shape.size();
  const std::int64_t m = d->type.shape[rank - 2], n = d->type.shape[rank - 1],
                     k = a->type.shape[rank - 1];
  const auto text = [](std::int64_t x) { return std::to_string(x); };
  std::string at_a, at_b = stored(b), at_d = data, stride_a = text(k);
  if (plan_.place(a) == Place::lazy) {
    // Read where it lies.
    const Affine& rows = scope_.analysis.of(a->def->operands[0]);
    at_a = cat(scope_.names.of(rows.root), " + (", rows.base.text(), ")");
    stride_a = rows.stride[0].text();
  } else {
    at_a = stored(a);
  }
  if (rank == 3) {
    out_.open(cat("for (std::int64_t i0 = 0; i0 < ", text(d->type.shape[0]), "; ++i0) {"));
    at_a += cat(" + i0 * ", text(m * k));
    at_b += cat(" + i0 * ", text(k * n));
    at_d += cat(" + i0 * ", text(m * n));
  }
  const std::string rows = rank == 2 ? extent(a, 0) : text(m);
  const std::string columns = rank == 2 ? extent(b, 1) : text(n);
  const std::string mode = is_sum ? ", rt::Add());" : ", rt::Set());";
  if (is_quads)
    out_.line(cat("rt::dot_quads<", text(n), ">(", at_a, ", ", stride_a,
                  ", reinterpret_cast<const std::int32_t*>(", at_b, "), ", at_d, ", ", rows, ", ",
                  columns, ", ", text(k / 4), mode));
  else
    out_.line(cat(is_fp32 ? "rt::dot<" : "rt::dot_plain<", text(n), ">(", at_a, ", ", stride_a,
                  ", ", at_b, ", ", text(n), ", ", at_d, ", ", text(n), ", ", rows, ", ", columns,
                  ", ", text(k), is_fp32 ? mode : ");"));
  if (!is_sum && (rows != text(m) || columns != text(n)))
    out_.line(
        cat("rt::zero_rest<", text(m), ", ", text(n), ">(", at_d, ", ", rows, ", ", columns, ");"));
  if (rank == 3) out_.close();
  round_sum(d);
}

// A narrow sum is rounded once, at the end.
void Emitter::round_sum(const Value* d) {
  const Scalar sum = d->type.scalar;
  const std::string& data = scope_.storage_of(d);
  if (is_narrow(sum))
    out_.line(cat("rt::for_row<", std::to_string(d->type.n_elements()),
                  ">(rt::All(), [&](auto, std::int64_t c) RT_BODY { rt::store(", data, " + c, ",
                  rounded_text(cat("rt::load(", data, " + c)"), sum), "); });"));
}

std::string Emitter::scaled_panel(const Op& o, bool is_rhs) {
  const Value* v = o.operands[is_rhs ? 1 : 0];
  const std::int64_t scales = o.int_attr("scales", 0);
  const Value* scale = nullptr;
  if ((scales & (is_rhs ? 2 : 1)) != 0) scale = is_rhs ? o.operands.back() : o.operands[3];
  const bool is_packed = o.word_attr(is_rhs ? "rhs" : "lhs", "") == "e2m1";
  const bool along_k = o.int_attr(is_rhs ? "rhs_k_pack" : "lhs_k_pack", 1) != 0;
  const bool packs_columns = along_k != is_rhs;  // k is a left operand's columns
  std::vector<std::int64_t> shape = v->type.shape;
  const std::size_t rank = shape.size();
  const auto text = [](std::int64_t x) { return std::to_string(x); };
  const std::string stored_columns = text(shape[rank - 1]), stored_rows = text(shape[rank - 2]);
  if (is_packed) shape[packs_columns ? rank - 1 : rank - 2] *= 2;
  const std::string columns = text(shape[rank - 1]), rows = text(shape[rank - 2]);
  const std::int64_t n_batches = rank == 3 ? shape[0] : 1;
  const std::string panel = temporary(
      "panel", "float",
      static_cast<std::size_t>(n_batches * shape[rank - 2] * shape[rank - 1]) * sizeof(float));
  const std::string elements = stored(v), factors = scale != nullptr ? stored(scale) : "";
  const auto loop = [&](const char* i, const std::string& n) {
    out_.open(cat("for (std::int64_t ", i, " = 0; ", i, " < ", n, "; ++", i, ") {"));
  };
  loop("b", text(n_batches));
  loop("r", rows);
  loop("k", columns);
  const std::string r = is_packed && !packs_columns ? "r / 2" : "r";
  const std::string k = is_packed && packs_columns ? "k / 2" : "k";
  std::string x =
      cat(elements, "[(b * ", stored_rows, " + ", r, ") * ", stored_columns, " + ", k, "]");
  if (is_packed) x = cat("rt::e2m1_value(", x, " >> ", packs_columns ? "k" : "r", " % 2 * 4)");
  if (scale != nullptr) {
    const std::int64_t n_groups = scale->type.shape[rank - 1];
    const std::int64_t depth = shape[is_rhs ? rank - 2 : rank - 1];
    std::string s =
        cat(factors, "[(b * ", text(scale->type.shape[rank - 2]), " + ", is_rhs ? "k" : "r", ") * ",
            text(n_groups), " + ", is_rhs ? "r" : "k", " / ", text(depth / n_groups), "]");
    if (scale->type.scalar == Scalar::i8) s = cat("rt::e8m0_value(", s, ")");
    x = cat(x, " * ", s);
  }
  out_.line(cat(panel, "[(b * ", rows, " + r) * ", columns, " + k] = ", x, ";"));
  for (int i = 0; i < 3; ++i) out_.close();
  return panel;
}

// Both operands are scaled into panels of fp32, which holds every product of theirs exactly.
void Emitter::dot_scaled(const Op& o) {
  const Value* c = o.operands[2];
  const Value* d = o.result();
  if (d->type.scalar == Scalar::f64)
    refuse(scope_.where, o, "a sum in fp64 is not supported; expected fp32, fp16 or bf16");
  const std::string data = declare_buffer(d);
  const std::size_t mark = arena_;
  out_.open("{");
  const std::string a = scaled_panel(o, false), b = scaled_panel(o, true);
  if (plan_.place(c) == Place::lazy || plan_.home(c) != plan_.home(d)) fill({d}, {c});
  const std::size_t rank = d->type.shape.size();
  const std::int64_t m = d->type.shape[rank - 2], n = d->type.shape[rank - 1];
  std::int64_t k = o.operands[0]->type.shape[rank - 1];
  if (o.word_attr("lhs", "") == "e2m1" && o.int_attr("lhs_k_pack", 1) != 0) k *= 2;
  const auto text = [](std::int64_t x) { return std::to_string(x); };
  const std::int64_t n_batches = rank == 3 ? d->type.shape[0] : 1;
  out_.open(cat("for (std::int64_t b = 0; b < ", text(n_batches), "; ++b) {"));
  out_.line(cat("rt::dot<", text(n), ">(", a, " + b * ", text(m * k), ", ", text(k), ", ", b,
                " + b * ", text(k * n), ", ", text(n), ", ", data, " + b * ", text(m * n), ", ",
                text(n), ", ", text(m), ", ", text(n), ", ", text(k), ", rt::Add());"));
  out_.close();
  out_.close();
  arena_ = mark;
  round_sum(d);
}

}  // namespace nereid::ttir
