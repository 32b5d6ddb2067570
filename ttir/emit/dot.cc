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

// [K, N] from memory that is contiguous along K: sixteen columns at a time are read as rows, then
// turned.
void Emitter::fill_transposed(const Value* storage, const Value* value) {
  const std::int64_t k = storage->type.shape[0], n = storage->type.shape[1];
  const std::int64_t rows = std::min<std::int64_t>(n, 16);
  // Columns that are zero are not read by a dot.
  const bool only_dots = std::all_of(value->users.begin(), value->users.end(), [&](const Op* user) {
    return user->kind == OpKind::dot && user->operands[1] == value && user->operands[0] != value &&
           user->operands[2] != value;
  });
  const std::string columns = only_dots ? extent(value, 1) : std::to_string(n);
  const std::size_t mark = arena_;
  out_.open("{");
  const std::string strip = temporary("strip", "float", static_cast<std::size_t>(rows * k) * 4);
  Nest nest(scope_);
  Coord column;
  if (n > rows) {
    const int outer =
        nest.add_loop(cat("for (std::int64_t n0 = 0; n0 < ", columns, "; n0 += 16) {"));
    nest.after(outer, cat("rt::transpose_strip<", std::to_string(k), ">(", strip, ", ",
                          scope_.storage_of(storage), " + n0, ", std::to_string(n), ", 16);"));
    const int inner = nest.add_loop("for (std::int64_t r = 0; r < 16; ++r) {");
    nest.line(inner, "const std::int64_t column = n0 + r;");
    column = {Coord::Kind::index, inner, "column"};
  } else {
    nest.after(
        0, cat("rt::transpose_strip<", std::to_string(k), ">(", strip, ", ",
               scope_.storage_of(storage), ", ", std::to_string(n), ", ", std::to_string(n), ");"));
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
  const bool is_sum =
      plan_.place(c) != Place::lazy || !is_fp32 || d->type.shape.size() != 2 || !is_zero(*c);
  if (is_sum && (plan_.place(c) == Place::lazy || plan_.home(c) != plan_.home(d))) fill({d}, {c});
  const std::size_t rank = d->type.shape.size();
  const std::int64_t m = d->type.shape[rank - 2], n = d->type.shape[rank - 1],
                     k = a->type.shape[rank - 1];
  const auto text = [](std::int64_t x) { return std::to_string(x); };
  std::string at_a, at_b = scope_.storage_of(b), at_d = data, stride_a = text(k);
  if (plan_.place(a) == Place::lazy) {
    // Read where it lies.
    const Affine& rows = scope_.analysis.of(a->def->operands[0]);
    at_a = cat(scope_.names.of(rows.root), " + (", rows.base.text(), ")");
    stride_a = rows.stride[0].text();
  } else {
    at_a = scope_.storage_of(a);
  }
  if (rank == 3) {
    out_.open(cat("for (std::int64_t i0 = 0; i0 < ", text(d->type.shape[0]), "; ++i0) {"));
    at_a += cat(" + i0 * ", text(m * k));
    at_b += cat(" + i0 * ", text(k * n));
    at_d += cat(" + i0 * ", text(m * n));
  }
  const std::string rows = rank == 2 ? extent(a, 0) : text(m);
  const std::string columns = rank == 2 ? extent(b, 1) : text(n);
  out_.line(cat(is_fp32 ? "rt::dot<" : "rt::dot_plain<", text(n), ">(", at_a, ", ", stride_a, ", ",
                at_b, ", ", text(n), ", ", at_d, ", ", text(n), ", ", rows, ", ", columns, ", ",
                text(k),
                !is_fp32 ? ""
                : is_sum ? ", rt::Add()"
                         : ", rt::Set()",
                ");"));
  if (!is_sum && (rows != text(m) || columns != text(n)))
    out_.line(
        cat("rt::zero_rest<", text(m), ", ", text(n), ">(", at_d, ", ", rows, ", ", columns, ");"));
  if (rank == 3) out_.close();
  // A narrow sum is rounded once, at the end.
  if (is_narrow(sum))
    out_.line(cat("rt::for_row<", text(d->type.n_elements()),
                  ">(rt::All(), [&](auto, std::int64_t c) RT_BODY { rt::store(", data, " + c, ",
                  rounded_text(cat("rt::load(", data, " + c)"), sum), "); });"));
}

}  // namespace nereid::ttir
