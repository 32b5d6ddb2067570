// Goal: the instructions of emit/ptx.def on registers as NVIDIA's PTX has them: bits, whatever they
// mean.
// Non-goal: reading assembly (emit/ptx.cc does); speed beyond what the compiler makes of it.
// Rejected: vectors of sixteen: inline assembly is short, and lanes of 16 and 64 bits mix in it.
#pragma once

#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>

#include "float8.h"
#include "scaled.h"

namespace nereid::rt::ptx {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using rt::f8e4m3fn;
using rt::f8e5m2;

template <class T>
RT_INLINE T copy(T a) {
  return a;
}
template <class T>
RT_INLINE T and_(T a, T b) {
  return T(a & b);
}
template <class T>
RT_INLINE T or_(T a, T b) {
  return T(a | b);
}
template <class T>
RT_INLINE T xor_(T a, T b) {
  return T(a ^ b);
}
RT_INLINE u32 not_(u32 a) { return ~a; }

// Each bit of the result is the table's at the number that the three bits make.
RT_INLINE u32 lop3(u32 a, u32 b, u32 c, u32 table) {
  u32 out = 0;
  RT_UNROLL for (u32 i = 0; i < 8; ++i) if ((table >> i & 1) != 0) out |=
      ((i & 4) != 0 ? a : ~a) & ((i & 2) != 0 ? b : ~b) & ((i & 1) != 0 ? c : ~c);
  return out;
}

// Four of the eight bytes of b:a, each chosen by a nibble, whose top bit asks for its sign instead.
RT_INLINE u32 prmt(u32 a, u32 b, u32 selector) {
  const u64 bytes = u64(b) << 32 | a;
  u32 out = 0;
  RT_UNROLL for (int i = 0; i < 4; ++i) {
    const u32 nibble = selector >> (4 * i) & 15;
    u32 byte = u32(bytes >> (8 * (nibble & 7))) & 255;
    if ((nibble & 8) != 0) byte = (byte & 128) != 0 ? 255 : 0;
    out |= byte << (8 * i);
  }
  return out;
}

RT_INLINE u32 shl(u32 a, u32 n) { return n > 31 ? 0 : a << n; }
RT_INLINE u32 shr(u32 a, u32 n) { return n > 31 ? 0 : a >> n; }
RT_INLINE u32 shr_signed(u32 a, u32 n) { return u32(std::int32_t(a) >> (n > 31 ? 31 : n)); }
RT_INLINE u32 shf_left(u32 a, u32 b, u32 n) { return u32((u64(b) << 32 | a) << (n & 31) >> 32); }
RT_INLINE u32 shf_right(u32 a, u32 b, u32 n) { return u32((u64(b) << 32 | a) >> (n & 31)); }

RT_INLINE u32 bfe(u32 a, u32 at, u32 n) {
  at &= 255, n &= 255;
  return shr(a, at) & (n > 31 ? ~u32(0) : (u32(1) << n) - 1);
}
// The sign is that of the field's last bit, or of the register's where the field goes beyond it.
RT_INLINE u32 bfe_signed(u32 a, u32 at, u32 n) {
  at &= 255, n &= 255;
  if (n == 0) return 0;
  const u32 n_inside = at > 31 ? 0 : at + n > 32 ? 32 - at : n;
  const u32 sign = a >> (n_inside == 0 ? 31 : at + n_inside - 1) & 1;
  return bfe(a, at, n) | (sign == 0 || n_inside > 31 ? 0 : ~u32(0) << n_inside);
}
RT_INLINE u32 bfi(u32 a, u32 b, u32 at, u32 n) {
  at &= 255, n &= 255;
  const u32 mask = shl(n > 31 ? ~u32(0) : (u32(1) << n) - 1, at);
  return (b & ~mask) | (shl(a, at) & mask);
}
RT_INLINE u32 brev(u32 a) {
  u32 out = 0;
  for (int i = 0; i < 32; ++i) out |= (a >> i & 1) << (31 - i);
  return out;
}
RT_INLINE u32 popc(u32 a) { return u32(std::popcount(a)); }
RT_INLINE u32 clz(u32 a) { return u32(std::countl_zero(a)); }

RT_INLINE u32 add(u32 a, u32 b) { return a + b; }
RT_INLINE u32 sub(u32 a, u32 b) { return a - b; }
RT_INLINE u32 mul(u32 a, u32 b) { return a * b; }
RT_INLINE u32 mul_high(u32 a, u32 b) { return u32(u64(a) * b >> 32); }
RT_INLINE u32 mad(u32 a, u32 b, u32 c) { return a * b + c; }
RT_INLINE u32 min_unsigned(u32 a, u32 b) { return a < b ? a : b; }
RT_INLINE u32 max_unsigned(u32 a, u32 b) { return a > b ? a : b; }
RT_INLINE u32 min_signed(u32 a, u32 b) { return std::int32_t(a) < std::int32_t(b) ? a : b; }
RT_INLINE u32 max_signed(u32 a, u32 b) { return std::int32_t(a) > std::int32_t(b) ? a : b; }

// ---- fp32, as its bits

RT_INLINE float f(u32 a) { return std::bit_cast<float>(a); }
RT_INLINE u32 bits(float a) { return std::bit_cast<u32>(a); }

RT_INLINE u32 add_f32(u32 a, u32 b) { return bits(f(a) + f(b)); }
RT_INLINE u32 sub_f32(u32 a, u32 b) { return bits(f(a) - f(b)); }
RT_INLINE u32 mul_f32(u32 a, u32 b) { return bits(f(a) * f(b)); }
RT_INLINE u32 fma_f32(u32 a, u32 b, u32 c) { return bits(std::fma(f(a), f(b), f(c))); }
RT_INLINE u32 min_f32(u32 a, u32 b) { return bits(std::fmin(f(a), f(b))); }
RT_INLINE u32 max_f32(u32 a, u32 b) { return bits(std::fmax(f(a), f(b))); }
RT_INLINE u32 abs_f32(u32 a) { return a & 0x7fffffffu; }
RT_INLINE u32 neg_f32(u32 a) { return a ^ 0x80000000u; }
RT_INLINE u32 ex2(u32 a) { return bits(std::exp2(f(a))); }
RT_INLINE u32 lg2(u32 a) { return bits(std::log2(f(a))); }
RT_INLINE u32 rcp(u32 a) { return bits(1.0f / f(a)); }
RT_INLINE u32 rsqrt(u32 a) { return bits(1.0f / std::sqrt(f(a))); }
RT_INLINE u32 sqrt(u32 a) { return bits(std::sqrt(f(a))); }
RT_INLINE u32 sin(u32 a) { return bits(std::sin(f(a))); }
RT_INLINE u32 cos(u32 a) { return bits(std::cos(f(a))); }
RT_INLINE u32 tanh(u32 a) { return bits(std::tanh(f(a))); }

// .ftz: subnormal operands and results are zeros of their sign.
RT_INLINE u32 flush(u32 a) { return (a & 0x7f800000u) == 0 ? a & 0x80000000u : a; }
template <auto function, class... U>
RT_INLINE u32 flushed(U... a) {
  return flush(function(flush(a)...));
}

// ---- conversions

RT_INLINE u32 f32_of_f16(u16 a) { return bits(f16_value(std::int16_t(a))); }
RT_INLINE u32 f32_of_bf16(u16 a) { return u32(a) << 16; }
RT_INLINE u16 f16_of_f32(u32 a) { return u16(f16_bits(f(a))); }
RT_INLINE u16 bf16_of_f32(u32 a) { return u16(bf16_bits(f(a))); }

// To nearest, halves away from zero: ten bits of mantissa.
RT_INLINE u32 tf32_of_f32(u32 a) {
  return (a & 0x7f800000u) == 0x7f800000u ? a : (a + 0x1000u) & ~0x1fffu;
}
RT_INLINE u32 widened(u16 a) { return a; }
RT_INLINE u32 f32_of_s32(u32 a) { return bits(float(std::int32_t(a))); }
RT_INLINE u32 f32_of_u32(u32 a) { return bits(float(a)); }
RT_INLINE float nearest(float a) { return std::nearbyint(a); }
RT_INLINE float chopped(float a) { return std::trunc(a); }
template <auto round>
RT_INLINE u32 s32_of_f32(u32 a) {
  const float x = f(a);
  if (x != x) return 0;
  if (x >= 2147483648.0f) return 0x7fffffffu;
  if (x < -2147483648.0f) return 0x80000000u;
  return u32(std::int32_t(round(x)));
}

RT_INLINE u16 low(u32 a) { return u16(a); }
RT_INLINE u16 high(u32 a) { return u16(a >> 16); }
RT_INLINE u32 pair(u16 high, u16 low) { return u32(high) << 16 | low; }

// An instruction of fp32 on both halves: of numbers of 16 bits only the result is rounded.
template <auto function, class... U>
RT_INLINE u32 f16_pair(U... a) {
  return pair(f16_of_f32(function(f32_of_f16(high(a))...)),
              f16_of_f32(function(f32_of_f16(low(a))...)));
}
template <auto function, class... U>
RT_INLINE u32 bf16_pair(U... a) {
  return pair(bf16_of_f32(function(f32_of_bf16(high(a))...)),
              bf16_of_f32(function(f32_of_bf16(low(a))...)));
}
// The first operand is the upper half.
template <auto function>
RT_INLINE u32 pair_of_f32(u32 a, u32 b) {
  return pair(function(a), function(b));
}
template <class F>
RT_INLINE u32 f16x2_of_f8(u16 a) {
  return pair(u16(f16_bits(f8_value<F>(std::int8_t(a >> 8)))),
              u16(f16_bits(f8_value<F>(std::int8_t(a)))));
}
RT_INLINE u32 f16x2_of_e2m1(u16 a) {
  return pair(u16(f16_bits(e2m1_value(a >> 4))), u16(f16_bits(e2m1_value(a))));
}
template <class F>
RT_INLINE u16 f8_of_f32(u32 a, u32 b) {
  return u16(u16(std::uint8_t(f8_bits<F>(f(a)))) << 8 | std::uint8_t(f8_bits<F>(f(b))));
}
template <class F>
RT_INLINE u16 f8_of_f16x2(u32 a) {
  return f8_of_f32<F>(f32_of_f16(high(a)), f32_of_f16(low(a)));
}

// %globaltimer: nanoseconds.
inline u64 globaltimer() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return u64(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

}  // namespace nereid::rt::ptx
