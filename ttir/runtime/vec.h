// Goal: sixteen lanes of any type on any instruction set: what emitted kernels compute with.
// `Vec<T>` holds as many Highway registers as sixteen lanes take (one on AVX-512 for fp32, two on
// AVX2, four on NEON); `Mask` sixteen booleans.
// Non-goal: scalable vectors (SVE, RVV); more than one lane count.
// Rejected: Highway tags in the emitted text: mixed widths (fp32 values, int64 offsets, masks of
// both) would have to be cut into registers by the emitter, differently for each instruction set.
#pragma once

#include <hwy/highway.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if HWY_HAVE_SCALABLE
#error "the CPU target needs vectors of a fixed size"
#endif

#define RT_INLINE inline __attribute__((always_inline))
// GCC keeps arrays of registers in registers only where loops over them are gone early.
#define RT_UNROLL _Pragma("GCC unroll 16")
// Behind a lambda's parameter list: the body must melt into the loop that calls it.
#define RT_BODY __attribute__((always_inline))

namespace nereid::rt {

namespace hn = hwy::HWY_NAMESPACE;

using f16 = hwy::float16_t;
using bf16 = hwy::bfloat16_t;

inline constexpr int kVec = 16;  // lanes
// Vector registers of the processor: 32 on AVX-512 and NEON, 16 on AVX2.
inline constexpr int kRegisters = HWY_TARGET <= HWY_AVX3 || !HWY_ARCH_X86 ? 32 : 16;

template <class T>
inline constexpr int kLanes = HWY_MAX_BYTES / sizeof(T) < kVec ? int(HWY_MAX_BYTES / sizeof(T))
                                                               : kVec;
template <class T>
using Tag = hn::CappedTag<T, kLanes<T>>;
template <class T>
inline constexpr int kRegs = kVec / kLanes<T>;

template <class T>
struct Vec {
  hn::Vec<Tag<T>> r[kRegs<T>];
};

struct Mask {
  hn::Mask<Tag<float>> r[kRegs<float>];
};

// ---- construction and plain arrays

template <class T>
RT_INLINE Vec<T> set(std::type_identity_t<T> x) {
  Vec<T> v;
  RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::Set(Tag<T>(), x);
  return v;
}

// first, first + 1, ...
template <class T>
RT_INLINE Vec<T> iota(std::type_identity_t<T> first) {
  Vec<T> v;
  alignas(64) static constexpr T kSteps[kVec] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                 8, 9, 10, 11, 12, 13, 14, 15};
  RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] =
      hn::Add(hn::Set(Tag<T>(), first), hn::Load(Tag<T>(), kSteps + i * kLanes<T>));
  return v;
}

template <class T>
RT_INLINE Vec<T> from_array(const T* p) {
  Vec<T> v;
  RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::LoadU(Tag<T>(), p + i * kLanes<T>);
  return v;
}

template <class T>
RT_INLINE void to_array(const Vec<T>& v, T* p) {
  RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) hn::StoreU(v.r[i], Tag<T>(), p + i * kLanes<T>);
}

// A vector as a plain array.
template <class T>
struct Lanes {
  alignas(64) T lane[kVec];
  RT_INLINE explicit Lanes(const Vec<T>& v) { to_array(v, lane); }
};

// Lane by lane in plain C++, which the compiler vectorises where it can: for operations Highway
// lacks.
template <class R, class F, class... T>
RT_INLINE Vec<R> lanewise(F f, const Vec<T>&... v) {
  alignas(64) R out[kVec];
  [&](const auto&... in) RT_BODY {
    for (int i = 0; i < kVec; ++i) out[i] = f(in.lane[i]...);
  }(Lanes<T>(v)...);
  return from_array(out);
}

template <class T>
RT_INLINE T lane(const Vec<T>& v, int i) {
  alignas(64) T a[kVec];
  to_array(v, a);
  return a[i];
}

// ---- masks

RT_INLINE std::uint32_t to_bits(const Mask& m) {
  std::uint32_t bits = 0;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) {
    std::uint64_t part = 0;
    hn::StoreMaskBits(Tag<float>(), m.r[i], reinterpret_cast<std::uint8_t*>(&part));
    bits |= std::uint32_t(part & ((1u << kLanes<float>)-1)) << (i * kLanes<float>);
  }
  return bits;
}

// The part of the bits that belongs to register i of a Vec<T>.
template <class T>
RT_INLINE hn::Mask<Tag<T>> bits_part(std::uint32_t bits, int i) {
  const std::uint64_t part = (bits >> (i * kLanes<T>)) & ((1u << kLanes<T>)-1);
  return hn::LoadMaskBits(Tag<T>(), reinterpret_cast<const std::uint8_t*>(&part));
}

RT_INLINE Mask from_bits(std::uint32_t bits) {
  Mask m;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) m.r[i] = bits_part<float>(bits, i);
  return m;
}

// Lanes 0 .. n-1; any n.
RT_INLINE Mask first_n(std::int64_t n) {
  Mask m;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) {
    const std::int64_t rest = n - i * kLanes<float>;
    m.r[i] = hn::FirstN(Tag<float>(), rest < 0 ? 0 : rest > kLanes<float> ? kLanes<float> : rest);
  }
  return m;
}

RT_INLINE void to_array(const Mask& m, bool* p) {
  const std::uint32_t bits = to_bits(m);
  for (int i = 0; i < kVec; ++i) p[i] = (bits >> i & 1) != 0;
}

RT_INLINE Mask set_mask(bool b) { return first_n(b ? kVec : 0); }

#define RT_MASK_OP(symbol, function)                                                        \
  RT_INLINE Mask operator symbol(const Mask& a, const Mask& b) {                            \
    Mask m;                                                                                 \
    RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) m.r[i] = hn::function(a.r[i], b.r[i]); \
    return m;                                                                               \
  }
RT_MASK_OP(&, And)
RT_MASK_OP(|, Or)
RT_MASK_OP(^, Xor)
#undef RT_MASK_OP
RT_INLINE Mask operator!(const Mask& a) {
  Mask m;
  RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) m.r[i] = hn::Not(a.r[i]);
  return m;
}
RT_INLINE bool any(const Mask& m) { return to_bits(m) != 0; }

// The mask of register i of a Vec<T>.
template <class T>
RT_INLINE hn::Mask<Tag<T>> mask_part(const Mask& m, int i) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return hn::RebindMask(Tag<T>(), m.r[i]);
  } else {
    return bits_part<T>(to_bits(m), i);
  }
}

// A Mask from the masks of a Vec<T>'s registers.
template <class T, class F>
RT_INLINE Mask join_masks(F part) {
  if constexpr (sizeof(T) == sizeof(float)) {
    Mask m;
    RT_UNROLL for (int i = 0; i < kRegs<float>; ++i) m.r[i] = hn::RebindMask(Tag<float>(), part(i));
    return m;
  } else {
    std::uint32_t bits = 0;
    RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) {
      std::uint64_t p = 0;
      hn::StoreMaskBits(Tag<T>(), part(i), reinterpret_cast<std::uint8_t*>(&p));
      bits |= std::uint32_t(p & ((1u << kLanes<T>)-1)) << (i * kLanes<T>);
    }
    return from_bits(bits);
  }
}

// Booleans in memory are bytes.
RT_INLINE Vec<std::int8_t> mask_bytes(const Mask& m) {
  Vec<std::int8_t> v;
  v.r[0] =
      hn::IfThenElseZero(bits_part<std::int8_t>(to_bits(m), 0), hn::Set(Tag<std::int8_t>(), 1));
  return v;
}
RT_INLINE Mask bytes_mask(const Vec<std::int8_t>& v) {
  return join_masks<std::int8_t>(
      [&](int i) RT_BODY { return hn::Ne(v.r[i], hn::Zero(Tag<std::int8_t>())); });
}

// ---- arithmetic: operators on vectors read like those on scalars

#define RT_BINARY(symbol, function)                                                     \
  template <class T>                                                                    \
  RT_INLINE Vec<T> operator symbol(const Vec<T>& a, const Vec<T>& b) {                  \
    Vec<T> v;                                                                           \
    RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::function(a.r[i], b.r[i]); \
    return v;                                                                           \
  }
RT_BINARY(+, Add)
RT_BINARY(-, Sub)
RT_BINARY(&, And)
RT_BINARY(|, Or)
RT_BINARY(^, Xor)
#undef RT_BINARY

template <class T>
RT_INLINE Vec<T> operator*(const Vec<T>& a, const Vec<T>& b) {
  if constexpr (sizeof(T) == 1) {
    return lanewise<T>([](T x, T y) { return T(x * y); }, a, b);
  } else {
    Vec<T> v;
    RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::Mul(a.r[i], b.r[i]);
    return v;
  }
}

// x / 0 is 0 here and not a trap: Triton leaves it undefined, and lanes outside a mask may well
// divide by zero.
template <class T>
requires std::is_integral_v<T> RT_INLINE T quotient(T a, T b) {
  return b == 0                                ? T(0)
         : (std::is_signed_v<T> && b == T(-1)) ? T(0 - std::make_unsigned_t<T>(a))
                                               : T(a / b);
}
template <class T>
RT_INLINE Vec<T> operator/(const Vec<T>& a, const Vec<T>& b) {
  if constexpr (std::is_floating_point_v<T>) {
    Vec<T> v;
    RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::Div(a.r[i], b.r[i]);
    return v;
  } else if constexpr (sizeof(T) <= 4) {
    // Exact: a double holds every int32, and no quotient of two rounds across an integer.
    return lanewise<T>(
        [](T x, T y) { return T(std::int64_t(double(x) / double(y == 0 ? T(1) : y))); }, a, b);
  } else {
    return lanewise<T>([](T x, T y) { return quotient(x, y); }, a, b);
  }
}
template <class T>
RT_INLINE Vec<T> operator%(const Vec<T>& a, const Vec<T>& b) {
  return a - (a / b) * b;
}

template <class T>
RT_INLINE Vec<T> operator-(const Vec<T>& a) {
  Vec<T> v;
  RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::Neg(a.r[i]);
  return v;
}

template <class T>
RT_INLINE Vec<T> operator<<(const Vec<T>& a, const Vec<T>& b) {
  using U = std::make_unsigned_t<T>;
  return lanewise<T>([](T x, T y) { return T(U(y) < 8 * sizeof(T) ? U(x) << U(y) : U(0)); }, a, b);
}
template <class T>
RT_INLINE Vec<T> operator>>(const Vec<T>& a, const Vec<T>& b) {
  using U = std::make_unsigned_t<T>;
  return lanewise<T>(
      [](T x, T y) { return T(x >> (U(y) < 8 * sizeof(T) ? U(y) : U(8 * sizeof(T) - 1))); }, a, b);
}

#define RT_COMPARE(symbol, function)                                                   \
  template <class T>                                                                   \
  RT_INLINE Mask operator symbol(const Vec<T>& a, const Vec<T>& b) {                   \
    return join_masks<T>([&](int i) RT_BODY { return hn::function(a.r[i], b.r[i]); }); \
  }
RT_COMPARE(==, Eq)
RT_COMPARE(<, Lt)
RT_COMPARE(>, Gt)
#undef RT_COMPARE
template <class T>
RT_INLINE Mask operator<=(const Vec<T>& a, const Vec<T>& b) {
  if constexpr (std::is_floating_point_v<T>) {
    return join_masks<T>([&](int i) RT_BODY { return hn::Le(a.r[i], b.r[i]); });
  } else {
    return !(a > b);
  }
}
template <class T>
RT_INLINE Mask operator>=(const Vec<T>& a, const Vec<T>& b) {
  return b <= a;
}
template <class T>
RT_INLINE Mask operator!=(const Vec<T>& a, const Vec<T>& b) {
  return !(a == b);
}

template <class T>
RT_INLINE Vec<T> select(const Mask& m, const Vec<T>& a, const Vec<T>& b) {
  Vec<T> v;
  RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] =
      hn::IfThenElse(mask_part<T>(m, i), a.r[i], b.r[i]);
  return v;
}
RT_INLINE Mask select(const Mask& m, const Mask& a, const Mask& b) { return (m & a) | ((!m) & b); }
template <class T>
requires std::is_arithmetic_v<T> RT_INLINE T select(bool m, T a, T b) { return m ? a : b; }

}  // namespace nereid::rt
