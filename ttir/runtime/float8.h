// Goal: the 8-bit floats in software. Their values are carried as fp32 lanes, as those of fp16 and
// bf16 are.
// Non-goal: arithmetic in 8 bits: Triton has none.
// Rejected: a table of 256 values: a gather costs more than the three integer operations.
#pragma once

#include <cmath>

#include "convert.h"

namespace nereid::rt {

// Without infinities there is one NaN pattern of each sign; the fnuz formats have one in all, where
// -0 would be.
template <int M, int B, bool has_infinity, bool is_fnuz>
struct Float8 {
  static constexpr int kMantissa = M, kBias = B;
  static constexpr bool kInfinity = has_infinity, kFnuz = is_fnuz;
  static constexpr std::uint8_t kNan = is_fnuz ? 0x80 : 0x7f;
  static constexpr std::uint8_t kLargest = has_infinity ? 0x7b : is_fnuz ? 0x7f : 0x7e;

  std::uint8_t bits;
};
using f8e4m3fn = Float8<3, 7, false, false>;
using f8e5m2 = Float8<2, 15, true, false>;
using f8e4m3fnuz = Float8<3, 8, false, true>;
using f8e5m2fnuz = Float8<2, 16, false, true>;

template <class T>
inline constexpr bool kIsFloat8 = false;
template <int M, int B, bool I, bool F>
inline constexpr bool kIsFloat8<Float8<M, B, I, F>> = true;

// By way of fp16, whose subnormal numbers cost no more than others: a product with an fp32 that is
// subnormal takes a hundred cycles on x86.
template <class F>
requires(!F::kFnuz) RT_INLINE hn::Vec<Tag<float>> f8_value_of(
    hn::Vec<hn::Rebind<std::int16_t, Tag<float>>> wide) {
  const hn::Rebind<std::int16_t, Tag<float>> d;
  const Tag<float> df;
  const Tag<std::int32_t> di;
  if constexpr (F::kInfinity) {
    const auto v = from_f16(hn::BitCast(HalfTag(), hn::ShiftLeft<8>(wide)));
    // A conversion makes NaN quiet, and a copy keeps every bit.
    const auto bits = hn::ShiftLeft<21>(hn::And(hn::PromoteTo(di, wide), hn::Set(di, 0x7f)));
    const auto nan = hn::BitCast(df, hn::Or(bits, hn::Set(di, 0x7f800000)));
    return hn::IfThenElse(hn::IsNaN(v), hn::CopySign(nan, v), v);
  } else {
    // The exponent's highest bit, which is 0 but for a sign extended, is 1 of NaN: then one more
    // than the number overflows into it.
    const auto placed = hn::ShiftLeft<7>(wide);
    const auto next = hn::Add(hn::And(placed, hn::Set(d, 0x3f80)), hn::Set(d, 0x80));
    const auto overflow = hn::Set(d, 0x4000);
    const auto half = hn::Or(hn::AndNot(overflow, placed), hn::And(overflow, next));
    return hn::Mul(from_f16(hn::BitCast(HalfTag(), half)), hn::Set(df, 256.0f));
  }
}
template <class F>
requires(!F::kFnuz) RT_INLINE Vec<float> f8_value(const Vec<std::int8_t>& a) {
  constexpr int kParts = kRegs<float>;
  const hn::Rebind<std::int16_t, Tag<float>> d;
  Vec<float> v;
  [&]<int... I>(std::integer_sequence<int, I...>) RT_BODY {
    ((v.r[I] =
          f8_value_of<F>(hn::PromoteTo(d, register_part<I, kParts>(Tag<std::int8_t>(), a.r[0])))),
     ...);
  }
  (std::make_integer_sequence<int, kParts>());
  return v;
}
template <class F>
requires(F::kFnuz) RT_INLINE Vec<float> f8_value(const Vec<std::int8_t>& a) {
  const Tag<float> d;
  const Tag<std::int32_t> di;
  const Vec<std::int32_t> wide = to<std::int32_t>(a);
  Vec<float> v;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) {
    const auto low = hn::And(wide.r[i], hn::Set(di, 0x7f));
    const auto sign = hn::ShiftLeft<24>(hn::And(wide.r[i], hn::Set(di, 0x80)));
    // Exact, subnormal numbers too: the exponent is moved by a multiplication.
    const auto placed = hn::BitCast(d, hn::ShiftLeft<23 - F::kMantissa>(low));
    const float scale = std::bit_cast<float>(std::uint32_t(254 - F::kBias) << 23);
    auto bits = hn::BitCast(di, hn::Mul(placed, hn::Set(d, scale)));
    const auto nan = hn::Set(di, 0x7fc00000);
    bits = hn::IfThenElse(hn::Eq(wide.r[i], hn::Set(di, -128)), nan, hn::Or(bits, sign));
    v.r[i] = hn::BitCast(d, bits);
  }
  return v;
}
template <class F>
RT_INLINE float f8_value(std::int8_t a) {
  return lane(f8_value<F>(set<std::int8_t>(a)), 0);
}

// To nearest, ties to even, or toward zero. Infinity stays where there is one, and NaN keeps its
// sign and payload.
template <class F, bool toward_zero = false>
RT_INLINE std::int8_t f8_bits(float x) {
  constexpr int kShift = 23 - F::kMantissa;
  constexpr std::uint32_t kMinNormal = std::uint32_t(128 - F::kBias) << 23;
  const auto all = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t a = all & 0x7fffffff;
  std::uint32_t sign = all >> 24 & 0x80;
  if (a > 0x7f800000) {
    if (F::kFnuz) return std::int8_t(F::kNan);
    const std::uint32_t payload = F::kInfinity ? a >> 21 & 3 : 0;
    return std::int8_t(sign | (payload != 0 ? 0x7c | payload : F::kNan));
  }
  std::uint32_t q;
  if (a >= kMinNormal) {
    const std::uint32_t up = toward_zero ? 0 : (1u << (kShift - 1)) - 1 + (a >> kShift & 1);
    q = ((a + up) >> kShift) - (std::uint32_t(127 - F::kBias) << F::kMantissa);
  } else {
    // In units of the smallest number; adding 2^23 rounds to an integer.
    const float units = std::bit_cast<float>(a) *
                        std::bit_cast<float>(std::uint32_t(126 + F::kBias + F::kMantissa) << 23);
    q = toward_zero ? std::uint32_t(units)
                    : std::bit_cast<std::uint32_t>(units + 8388608.0f) - 0x4b000000;
  }
  if (q > F::kLargest) q = F::kInfinity && a == 0x7f800000 ? 0x7c : F::kLargest;
  if (F::kFnuz && q == 0) sign = 0;
  return std::int8_t(q | sign);
}
// Lane by lane what f8_bits and f8_converted say, to nearest.
template <class F, bool is_conversion>
requires(!F::kFnuz) RT_INLINE Vec<std::int8_t> f8_nearest(const Vec<float>& x) {
  constexpr int kShift = 23 - F::kMantissa;
  const Tag<float> df;
  const Tag<std::int32_t> d;
  const auto k = [&](std::uint32_t bits) RT_BODY { return hn::Set(d, std::int32_t(bits)); };
  const auto infinity = k(0x7f800000);
  Vec<std::int32_t> codes;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) {
    const auto all = hn::BitCast(d, x.r[i]);
    const auto a = hn::And(all, k(0x7fffffff));
    const auto up = hn::Add(k((1u << (kShift - 1)) - 1), hn::And(hn::ShiftRight<kShift>(a), k(1)));
    const auto normal = hn::Sub(hn::ShiftRight<kShift>(hn::Add(a, up)),
                                k(std::uint32_t(127 - F::kBias) << F::kMantissa));
    const auto unit = hn::BitCast(df, k(std::uint32_t(126 + F::kBias + F::kMantissa) << 23));
    const auto whole = hn::MulAdd(hn::BitCast(df, a), unit, hn::Set(df, 8388608.0f));
    const auto small = hn::Sub(hn::BitCast(d, whole), k(0x4b000000));
    const auto is_small = hn::Lt(a, k(std::uint32_t(128 - F::kBias) << 23));
    auto q = hn::Min(hn::IfThenElse(is_small, small, normal), k(F::kLargest));
    if constexpr (F::kInfinity && !is_conversion)
      q = hn::IfThenElse(hn::Eq(a, infinity), k(0x7c), q);
    auto nan = k(F::kNan);
    if constexpr (F::kInfinity && !is_conversion) {
      const auto payload = hn::And(hn::ShiftRight<21>(a), k(3));
      nan = hn::IfThenElse(hn::Eq(payload, k(0)), nan, hn::Or(payload, k(0x7c)));
    }
    const auto sign = hn::And(hn::ShiftRight<24>(all), k(0x80));
    const auto is_nan = hn::Gt(a, infinity);
    if constexpr (is_conversion) {
      codes.r[i] = hn::IfThenElse(is_nan, nan, hn::Or(q, sign));
    } else {
      codes.r[i] = hn::Or(hn::IfThenElse(is_nan, nan, q), sign);
    }
  }
  return to<std::int8_t>(codes);
}
template <class F, bool toward_zero = false>
RT_INLINE Vec<std::int8_t> f8_bits(const Vec<float>& a) {
  if constexpr (F::kFnuz || toward_zero) {
    return lanewise<std::int8_t>([](float x) { return f8_bits<F, toward_zero>(x); }, a);
  } else {
    return f8_nearest<F, false>(a);
  }
}
// A conversion saturates, infinities too, and makes one NaN of all, as NVIDIA's do; one toward zero
// keeps infinities.
template <class F, bool toward_zero>
RT_INLINE std::int8_t f8_converted(float x) {
  if (x != x) return std::int8_t(F::kNan);
  if (!toward_zero && std::isinf(x)) x = std::copysign(65536.0f, x);
  return f8_bits<F, toward_zero>(x);
}
template <class F, bool toward_zero = false>
RT_INLINE float round_f8(float x) {
  return f8_value<F>(f8_converted<F, toward_zero>(x));
}
template <class F, bool toward_zero = false>
RT_INLINE Vec<float> round_f8(const Vec<float>& a) {
  if constexpr (F::kFnuz || toward_zero) {
    return f8_value<F>(
        lanewise<std::int8_t>([](float x) { return f8_converted<F, toward_zero>(x); }, a));
  } else {
    return f8_value<F>(f8_nearest<F, true>(a));
  }
}

// fp16 and bf16 toward zero: the nearest one, less one where that is beyond.
RT_INLINE float round_f16_toward_zero(float x) {
  const float near = round_f16(x);
  if (!(std::fabs(near) > std::fabs(x))) return near;
  return f16_value(std::int16_t(f16_bits(near) - 1));
}
RT_INLINE float round_bf16_toward_zero(float x) {
  // In integers: gcc 12 drops the & where floats are compared.
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
  return std::bit_cast<float>(is_nan ? bits | 0x400000 : bits & 0xffff0000u);
}
RT_INLINE Vec<float> round_f16_toward_zero(const Vec<float>& a) {
  return lanewise<float>([](float x) { return round_f16_toward_zero(x); }, a);
}
RT_INLINE Vec<float> round_bf16_toward_zero(const Vec<float>& a) {
  return lanewise<float>([](float x) { return round_bf16_toward_zero(x); }, a);
}

}  // namespace nereid::rt
