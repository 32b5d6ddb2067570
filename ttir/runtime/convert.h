// Goal: conversions between lane types, and the operations that are spelt alike on scalars and
// vectors. fp16 and bf16 values are carried as fp32 lanes that hold exactly representable numbers.
// Non-goal: the 8-bit floats (float8.h).
// Rejected: 16-bit lanes for fp16 values: no arithmetic exists on them below AVX512-FP16.
#pragma once

#include "vec.h"

namespace nereid::rt {

// Two registers of a double-width type from each register of T, and back.
template <class W, class T>
RT_INLINE Vec<W> widen(const Vec<T>& a) {
  static_assert(sizeof(W) == 2 * sizeof(T) && kRegs<W> == 2 * kRegs<T>);
  const hn::Half<Tag<T>> half;
  Vec<W> v;
  RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) {
    v.r[2 * i] = hn::PromoteTo(Tag<W>(), hn::LowerHalf(half, a.r[i]));
    v.r[2 * i + 1] = hn::PromoteTo(Tag<W>(), hn::UpperHalf(half, a.r[i]));
  }
  return v;
}

// The part of a register that is number `i` of n.
template <int i, int n, class D>
RT_INLINE auto register_part(D d, hn::Vec<D> v) {
  if constexpr (n == 1) {
    return v;
  } else {
    const hn::Half<D> half;
    if constexpr (i < n / 2) {
      return register_part<i, n / 2>(half, hn::LowerHalf(half, v));
    } else {
      return register_part<i - n / 2, n / 2>(half, hn::UpperHalf(half, v));
    }
  }
}
// Of fewer bits to W, sign-extended, or with zeros where N is unsigned.
template <class W, class N, class T>
RT_INLINE Vec<W> promoted(const Vec<T>& a) {
  constexpr int kParts = kRegs<W> / kRegs<T>;
  const hn::Rebind<N, Tag<T>> d;
  Vec<W> v;
  [&]<int... I>(std::integer_sequence<int, I...>) RT_BODY {
    ((v.r[I] = hn::PromoteTo(
          Tag<W>(), register_part<I % kParts, kParts>(d, hn::BitCast(d, a.r[I / kParts])))),
     ...);
  }
  (std::make_integer_sequence<int, kRegs<W>>());
  return v;
}

template <class T>
RT_INLINE Vec<T> convert(const Vec<T>& a, std::type_identity<T>) {
  return a;
}
RT_INLINE Vec<double> convert(const Vec<float>& a, std::type_identity<double>) {
  return widen<double>(a);
}
RT_INLINE Vec<std::int64_t> convert(const Vec<std::int32_t>& a, std::type_identity<std::int64_t>) {
  return widen<std::int64_t>(a);
}
RT_INLINE Vec<float> convert(const Vec<std::int32_t>& a, std::type_identity<float>) {
  Vec<float> v;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) v.r[i] = hn::ConvertTo(Tag<float>(), a.r[i]);
  return v;
}
RT_INLINE Vec<float> convert(const Vec<double>& a, std::type_identity<float>) {
  const hn::Half<Tag<float>> half;
  Vec<float> v;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) v.r[i] =
      hn::Combine(Tag<float>(), hn::DemoteTo(half, a.r[2 * i + 1]), hn::DemoteTo(half, a.r[2 * i]));
  return v;
}
// Of 8 and 16 bits, which go to what is wider than 32 by way of these, and come from there so.
template <class T>
inline constexpr bool kIsSmall = std::is_integral_v<T> && sizeof(T) < sizeof(std::int32_t);
template <class From, class To>
inline constexpr bool kIsPromotion = kIsSmall<From>&& std::is_integral_v<To> &&
                                     sizeof(From) < sizeof(To) && sizeof(To) <= 4;
template <class From, class To>
RT_INLINE Vec<To> convert(const Vec<From>& a, std::type_identity<To> to) {
  using Word = std::int32_t;
  constexpr std::type_identity<Word> kWord;
  if constexpr (kIsPromotion<From, To>) {
    return promoted<To, From>(a);
  } else if constexpr (kIsSmall<From>) {
    return convert(convert(a, kWord), to);
  } else if constexpr (kIsSmall<To> && std::is_same_v<From, float>) {
    return convert(convert(a, kWord), to);
  } else if constexpr (kIsSmall<To> && std::is_same_v<From, Word> && kRegs<Word> == 1) {
    const hn::Rebind<std::make_unsigned_t<To>, Tag<Word>> narrow;
    const auto bits = hn::BitCast(Tag<std::uint32_t>(), a.r[0]);
    return {{hn::BitCast(Tag<To>(), hn::TruncateTo(narrow, bits))}};
  } else {
    return lanewise<To>([](From x) { return static_cast<To>(x); }, a);
  }
}
template <class From, class To>
requires std::is_arithmetic_v<From> RT_INLINE To convert(From a, std::type_identity<To>) {
  return static_cast<To>(a);
}

// Sign-extends, truncates, or converts between integers and floats as the types say.
template <class To, class From>
RT_INLINE auto to(const From& a) {
  return convert(a, std::type_identity<To>());
}

template <class T, class To>
RT_INLINE Vec<To> convert_unsigned(const Vec<T>& a, std::type_identity<To> to) {
  if constexpr (kIsPromotion<T, To>) {
    return promoted<To, std::make_unsigned_t<T>>(a);
  } else if constexpr (kIsSmall<T> && sizeof(To) > sizeof(T)) {
    return convert(promoted<std::int32_t, std::make_unsigned_t<T>>(a), to);
  } else {
    return lanewise<To>([](T x) { return static_cast<To>(std::make_unsigned_t<T>(x)); }, a);
  }
}
template <class T, class To>
requires std::is_integral_v<T> RT_INLINE To convert_unsigned(T a, std::type_identity<To>) {
  return static_cast<To>(std::make_unsigned_t<T>(a));
}
// Likewise, reading the source's bits as unsigned.
template <class To, class From>
RT_INLINE auto to_from_unsigned(const From& a) {
  return convert_unsigned(a, std::type_identity<To>());
}
template <class To, class T>
RT_INLINE Vec<To> to_unsigned(const Vec<T>& a) {
  return lanewise<To>([](T x) { return static_cast<To>(static_cast<std::make_unsigned_t<To>>(x)); },
                      a);
}
template <class To, class T>
requires std::is_arithmetic_v<T> RT_INLINE To to_unsigned(T a) {
  return static_cast<To>(static_cast<std::make_unsigned_t<To>>(a));
}

// A boolean as 0 and 1 (or, sign-extended, 0 and -1).
template <class To>
RT_INLINE Vec<To> mask_to(const Mask& m, std::type_identity_t<To> one) {
  return select(m, set<To>(one), set<To>(0));
}
template <class To>
RT_INLINE To mask_to(bool m, std::type_identity_t<To> one) {
  return m ? one : To(0);
}
template <class T>
RT_INLINE Mask to_mask(const Vec<T>& a) {
  return (a & set<T>(1)) != set<T>(0);
}
template <class T>
requires std::is_integral_v<T> RT_INLINE bool to_mask(T a) { return (a & 1) != 0; }

template <class To, class T>
RT_INLINE Vec<To> bits_as(const Vec<T>& a) {
  static_assert(sizeof(To) == sizeof(T));
  Vec<To> v;
  RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::BitCast(Tag<To>(), a.r[i]);
  return v;
}
template <class To, class T>
requires std::is_arithmetic_v<T> RT_INLINE To bits_as(T a) { return std::bit_cast<To>(a); }

// ---- fp16 and bf16

using HalfTag = hn::Rebind<f16, Tag<float>>;
using Bits16Tag = hn::Rebind<std::uint16_t, Tag<float>>;

RT_INLINE hn::Vec<HalfTag> to_f16(hn::Vec<Tag<float>> v) { return hn::DemoteTo(HalfTag(), v); }
RT_INLINE hn::Vec<Tag<float>> from_f16(hn::Vec<HalfTag> v) {
  return hn::PromoteTo(Tag<float>(), v);
}

// Round to nearest even by integer arithmetic: Highway 1.0 truncates. NaN stays NaN.
RT_INLINE hn::Vec<Tag<std::uint32_t>> bf16_rounded_bits(hn::Vec<Tag<float>> v) {
  const Tag<std::uint32_t> d;
  const auto bits = hn::BitCast(d, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7fff)));
  const auto nan = hn::RebindMask(d, hn::IsNaN(v));
  return hn::IfThenElse(nan, hn::Or(bits, hn::Set(d, 0x400000)), rounded);
}
RT_INLINE hn::Vec<Bits16Tag> to_bf16(hn::Vec<Tag<float>> v) {
  return hn::DemoteTo(Bits16Tag(),
                      hn::BitCast(Tag<std::int32_t>(), hn::ShiftRight<16>(bf16_rounded_bits(v))));
}
RT_INLINE hn::Vec<Tag<float>> from_bf16(hn::Vec<Bits16Tag> v) {
  return hn::BitCast(Tag<float>(), hn::ShiftLeft<16>(hn::PromoteTo(Tag<std::uint32_t>(), v)));
}

RT_INLINE Vec<float> round_f16(const Vec<float>& a) {
  Vec<float> v;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) v.r[i] = from_f16(to_f16(a.r[i]));
  return v;
}
RT_INLINE Vec<float> round_bf16(const Vec<float>& a) {
  Vec<float> v;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) v.r[i] = hn::BitCast(
      Tag<float>(), hn::And(bf16_rounded_bits(a.r[i]), hn::Set(Tag<std::uint32_t>(), 0xffff0000u)));
  return v;
}
RT_INLINE float round_f16(float a) { return hn::GetLane(round_f16(set<float>(a)).r[0]); }
RT_INLINE float round_bf16(float a) { return hn::GetLane(round_bf16(set<float>(a)).r[0]); }

// The 16 bits of an fp16 or bf16 value, and the value of such bits.
RT_INLINE Vec<std::int16_t> f16_bits(const Vec<float>& a) {
  alignas(64) std::int16_t out[kVec];
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i)
      hn::StoreU(to_f16(a.r[i]), HalfTag(), reinterpret_cast<f16*>(out) + i * kLanes<float>);
  return from_array(out);
}
RT_INLINE Vec<float> f16_value(const Vec<std::int16_t>& a) {
  alignas(64) std::int16_t in[kVec];
  to_array(a, in);
  Vec<float> v;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) v.r[i] =
      from_f16(hn::LoadU(HalfTag(), reinterpret_cast<const f16*>(in) + i * kLanes<float>));
  return v;
}
RT_INLINE Vec<std::int16_t> bf16_bits(const Vec<float>& a) {
  return lanewise<std::int16_t>(
      [](float x) { return std::int16_t(std::bit_cast<std::uint32_t>(x) >> 16); }, round_bf16(a));
}
RT_INLINE Vec<float> bf16_value(const Vec<std::int16_t>& a) {
  return lanewise<float>(
      [](std::int16_t x) { return std::bit_cast<float>(std::uint32_t(std::uint16_t(x)) << 16); },
      a);
}
RT_INLINE std::int16_t f16_bits(float a) { return lane(f16_bits(set<float>(a)), 0); }
RT_INLINE float f16_value(std::int16_t a) { return lane(f16_value(set<std::int16_t>(a)), 0); }
RT_INLINE std::int16_t bf16_bits(float a) { return lane(bf16_bits(set<float>(a)), 0); }
RT_INLINE float bf16_value(std::int16_t a) { return lane(bf16_value(set<std::int16_t>(a)), 0); }

}  // namespace nereid::rt
