// The rules of tt.dot and tt.dot_scaled.
#include <algorithm>
#include <array>

#include "verify_op.h"

namespace nereid::ttir {
namespace {

// The elements of tt.dot_scaled, and how they are stored.
struct ScaledFormat {
  std::string_view name;
  Scalar scalar;
};
constexpr std::array kScaledFormats = {
    ScaledFormat{"e2m1", Scalar::i8}, ScaledFormat{"e4m3", Scalar::f8e4m3fn},
    ScaledFormat{"e5m2", Scalar::f8e5m2}, ScaledFormat{"bf16", Scalar::bf16},
    ScaledFormat{"fp16", Scalar::f16}};

}  // namespace

void OpRules::dot(const Op& op) const {
  const Type& a = op.operands[0]->type;
  const Type& b = op.operands[1]->type;
  const Type& c = op.operands[2]->type;
  expect_type(op, "the result", op.result()->type, c);
  const std::size_t rank = a.shape.size();
  expect((rank == 2 || rank == 3) && b.shape.size() == rank && c.shape.size() == rank, op,
         "operands of rank {}, {} and {}; expected 2 or 3", rank, b.shape.size(), c.shape.size());
  const bool fits = a.shape[rank - 1] == b.shape[rank - 2] &&
                    c.shape[rank - 2] == a.shape[rank - 2] &&
                    c.shape[rank - 1] == b.shape[rank - 1] &&
                    (rank == 2 || (a.shape[0] == b.shape[0] && a.shape[0] == c.shape[0]));
  expect(fits, op, "shapes {} * {} -> {}", type_text(a), type_text(b), type_text(c));
  const bool floats = is_flt(a) && is_flt(b) && is_flt(c);
  const bool integers = is_int(a) && is_int(b) && is_int(c);
  expect((floats || integers) && bit_width(a.scalar) == bit_width(b.scalar), op,
         "elements {} * {} -> {}", type_text(a), type_text(b), type_text(c));
}

void OpRules::dot_scaled(const Op& op) const {
  const Type &a = op.operands[0]->type, &b = op.operands[1]->type, &c = op.operands[2]->type;
  expect_type(op, "the result", op.result()->type, c);
  const std::size_t rank = c.shape.size();
  expect((rank == 2 || rank == 3) && a.shape.size() == rank && b.shape.size() == rank && is_flt(c),
         op, "{} * {} -> {}; expected matrices of floats", type_text(a), type_text(b),
         type_text(c));
  const std::int64_t m = c.shape[rank - 2], n = c.shape[rank - 1];
  // Pairs of e2m1 lie in bytes along k, or along the other dimension.
  const auto side = [&](std::string_view name, const Type& type, bool is_rhs) {
    const std::string_view format = op.word_attr(name, "");
    const auto* row = std::find_if(kScaledFormats.begin(), kScaledFormats.end(),
                                   [&](const ScaledFormat& f) { return f.name == format; });
    expect(row != kScaledFormats.end(), op, "{} = '{}'; expected e2m1, e4m3, e5m2, bf16 or fp16",
           name, format);
    expect(type.scalar == row->scalar && !type.is_pointer, op, "{} = {} for {}", name, format,
           type_text(type));
    std::int64_t k = type.shape[is_rhs ? rank - 2 : rank - 1];
    std::int64_t other = type.shape[is_rhs ? rank - 1 : rank - 2];
    const bool along_k = op.int_attr(is_rhs ? "rhs_k_pack" : "lhs_k_pack", 1) != 0;
    if (format == "e2m1") (along_k ? k : other) *= 2;
    expect(other == (is_rhs ? n : m) && (rank == 2 || type.shape[0] == c.shape[0]), op,
           "{} has type {} for a result of {}", name, type_text(type), type_text(c));
    return k;
  };
  const std::int64_t k = side("lhs", a, false);
  expect(side("rhs", b, true) == k, op, "{} * {}: not as deep as each other", type_text(a),
         type_text(b));
  const std::int64_t which = op.int_attr("scales", -1);
  expect(which >= 0 && which <= 3 &&
             op.operands.size() == 3 + static_cast<std::size_t>((which & 1) + (which >> 1)),
         op, "{} operands and scales = {}", op.operands.size(), which);
  for (std::size_t i = 3; i < op.operands.size(); ++i) {
    const bool is_rhs = which == 2 || i == 4;
    const Type& scale = op.operands[i]->type;
    const bool fits = scale.shape.size() == rank && !scale.is_pointer &&
                      (scale.scalar == Scalar::i8 || scale.scalar == Scalar::f8e4m3fn) &&
                      scale.shape[rank - 2] == (is_rhs ? n : m) && k % scale.shape[rank - 1] == 0 &&
                      (rank == 2 || scale.shape[0] == c.shape[0]);
    expect(fits, op, "scales of type {} for {} rows {} deep; expected i8 (e8m0) or f8E4M3FN",
           type_text(scale), is_rhs ? n : m, k);
  }
}

}  // namespace nereid::ttir
