// Goal: the shapes of loop that emitted code is made of: over the vectors of a row, with one masked
// tail, and unrolled with constant indices (for accumulators that live in registers).
// Non-goal: loops over rows: those are plain `for`s in the emitted text.
// Rejected: one loop that masks every vector: the mask costs as much as the arithmetic of a
// streaming kernel.
#pragma once

#include "math.h"
#include "memory.h"

namespace nereid::rt {

template <int I>
using Index = std::integral_constant<int, I>;

// f(Index<0>), ..., f(Index<N-1>).
template <int N, class F>
RT_INLINE void unroll(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) RT_BODY { (f(Index<I>()), ...); }
  (std::make_integer_sequence<int, N>());
}

// Rows of a loop that keeps n_vectors of each in registers, taken together: two share what is the
// same for both, if half of the registers are left for that; four would read memory in an order
// that hardware prefetchers follow less well.
constexpr int rows_at_once(std::int64_t n_rows, std::int64_t n_vectors) {
  return n_rows % 2 == 0 && 2 * n_vectors * kRegs<float> <= kRegisters / 2 ? 2 : 1;
}

// A symbolic term of an address: 64 bits, whatever the kernel counted in.
RT_INLINE std::int64_t i64(std::int64_t x) { return x; }
template <class... N>
RT_INLINE std::int64_t least(std::int64_t a, N... rest) {
  ((a = std::int64_t{rest} < a ? std::int64_t{rest} : a), ...);
  return a;
}

// A row is walked by vectors; `full` says how far every load of the row may touch all lanes. The
// body is compiled twice: f(All, c) for vectors below that, f(Some, c) for the rest, where each
// load counts its own lanes: upto(active, n - c).
struct Some {};
RT_INLINE All upto(All, std::int64_t) { return {}; }
RT_INLINE FirstN upto(Some, std::int64_t n) { return {n}; }

// All C lanes of a row.
template <int C, class F>
RT_INLINE void for_row(std::int64_t n_full, F&& f) {
  const std::int64_t full = least(n_full, C);
  std::int64_t c = 0;
  if constexpr (C >= kVec)
    for (; c + kVec <= full; c += kVec) f(All{}, c);
  for (; c < C; c += kVec) f(Some{}, c);
}
template <int C, class F>
RT_INLINE void for_row(All, F&& f) {
  if constexpr (C < kVec) {
    f(Some{}, std::int64_t{0});
  } else {
    for (std::int64_t c = 0; c < C; c += kVec) f(All{}, c);
  }
}
// The first n lanes of a row (all, where n is more), n_full <= n.
template <int C, class F>
RT_INLINE void for_lanes(std::int64_t n_any, std::int64_t n_full, F&& f) {
  const std::int64_t n = least(n_any, C);
  const std::int64_t full = least(n_full, C);
  std::int64_t c = 0;
  for (; c + kVec <= full; c += kVec) f(All{}, c);
  for (; c < n; c += kVec) f(Some{}, c);
}

// Likewise, with the index of one of U accumulators: f(active, c, Index<u>).
template <int C, int U, class F>
RT_INLINE void for_row_with(std::int64_t n_full, F&& f) {
  const std::int64_t full = least(n_full, C);
  std::int64_t c = 0;
  if constexpr (C >= kVec)
    for (; c + U * kVec <= full; c += U * kVec)
      unroll<U>([&](auto u) RT_BODY { f(All{}, c + u * kVec, u); });
  for (; c < C; c += kVec) f(Some{}, c, Index<0>());
}
template <int C, int U, class F>
RT_INLINE void for_row_with(All, F&& f) {
  if constexpr (C < kVec) {
    f(Some{}, std::int64_t{0}, Index<0>());
  } else {
    for (std::int64_t c = 0; c < C; c += U * kVec)
      unroll<U>([&](auto u) RT_BODY { f(All{}, c + u * kVec, u); });
  }
}
template <int C, int U, class F>
RT_INLINE void for_lanes_with(std::int64_t n_any, std::int64_t n_full, F&& f) {
  const std::int64_t n = least(n_any, C);
  const std::int64_t full = least(n_full, C);
  std::int64_t c = 0;
  for (; c + U * kVec <= full; c += U * kVec)
    unroll<U>([&](auto u) RT_BODY { f(All{}, c + u * kVec, u); });
  for (; c < n; c += kVec) f(Some{}, c, Index<0>());
}

// N vectors at once, so that arrays of vectors indexed by j stay in registers: f(active, Index<j>).
template <int N, class F>
RT_INLINE void for_tile(std::int64_t full, F&& f) {
  if (full >= N * kVec) {
    unroll<N>([&](auto j) RT_BODY { f(All{}, j); });
  } else {
    unroll<N>([&](auto j) RT_BODY { f(Some{}, j); });
  }
}
template <int N, class F>
RT_INLINE void for_tile(All, F&& f) {
  unroll<N>([&](auto j) RT_BODY { f(All{}, j); });
}
template <int N, class F>
RT_INLINE void for_tile(Some, F&& f) {
  unroll<N>([&](auto j) RT_BODY { f(Some{}, j); });
}

// ---- from sixteen lanes to one

// combine(a, b) over the first n lanes, left to right.
template <class T, class F>
RT_INLINE T fold(const Vec<T>& v, int n, F combine) {
  alignas(64) T a[kVec];
  to_array(v, a);
  T x = a[0];
  for (int i = 1; i < n; ++i) x = combine(x, a[i]);
  return x;
}
template <class T>
RT_INLINE T sum_lanes(const Vec<T>& v) {
  auto s = v.r[0];
  RT_UNROLL for (int i = 1; i < kRegs<T>; ++i) s = hn::Add(s, v.r[i]);
  return hn::GetLane(hn::SumOfLanes(Tag<T>(), s));
}
// Lanes that are off count as nothing.
template <class T>
RT_INLINE T max_lanes(const Vec<T>& v) {
  auto s = v.r[0];
  RT_UNROLL for (int i = 1; i < kRegs<T>; ++i) s = hn::Max(s, v.r[i]);
  return hn::GetLane(hn::MaxOfLanes(Tag<T>(), s));
}
template <class T>
RT_INLINE T min_lanes(const Vec<T>& v) {
  auto s = v.r[0];
  RT_UNROLL for (int i = 1; i < kRegs<T>; ++i) s = hn::Min(s, v.r[i]);
  return hn::GetLane(hn::MinOfLanes(Tag<T>(), s));
}

// Sixteen rows, each to one lane: what sum_lanes, max_lanes and min_lanes give for each, to the
// last bit, but in a quarter of the shuffles.
template <class F, class One>
RT_INLINE Vec<float> lanes_of_rows(const Vec<float>* rows, F combine, One one) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  const Tag<float> d;
  const Tag<double> wide;
  const auto row = [&](int i) RT_BODY { return rows[i].r[0]; };
  // Of rows l, l + 2, l + 4 and l + 6, which end in the blocks 0 to 3.
  const auto group = [&](int l) RT_BODY {
    const auto halves = [&](auto a, auto b) RT_BODY {
      return combine(hn::ConcatLowerLower(d, b, a), hn::ConcatUpperUpper(d, b, a));
    };
    const auto x = halves(row(l), row(l + 4)), y = halves(row(l + 2), row(l + 6));
    return combine(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(y), x),
                   hn::OddEvenBlocks(y, hn::SwapAdjacentBlocks(x)));
  };
  const auto pairs = [&](auto a, auto b) RT_BODY {
    const auto x = hn::BitCast(wide, a), y = hn::BitCast(wide, b);
    return combine(hn::BitCast(d, hn::InterleaveLower(wide, x, y)),
                   hn::BitCast(d, hn::InterleaveUpper(wide, x, y)));
  };
  const auto p = pairs(group(0), group(1)), q = pairs(group(8), group(9));
  static_cast<void>(one);
  return {{combine(hn::ConcatEven(d, q, p), hn::ConcatOdd(d, q, p))}};
#else
  static_cast<void>(combine);
  alignas(64) float out[kVec];
  for (int i = 0; i < kVec; ++i) out[i] = one(rows[i]);
  return from_array(out);
#endif
}
RT_INLINE Vec<float> sum_lanes(const Vec<float>* rows) {
  return lanes_of_rows(
      rows, [](auto a, auto b) RT_BODY { return hn::Add(a, b); },
      [](const Vec<float>& v) { return sum_lanes(v); });
}
RT_INLINE Vec<float> max_lanes(const Vec<float>* rows) {
  return lanes_of_rows(
      rows, [](auto a, auto b) RT_BODY { return hn::Max(a, b); },
      [](const Vec<float>& v) { return max_lanes(v); });
}
RT_INLINE Vec<float> min_lanes(const Vec<float>* rows) {
  return lanes_of_rows(
      rows, [](auto a, auto b) RT_BODY { return hn::Min(a, b); },
      [](const Vec<float>& v) { return min_lanes(v); });
}

// max(acc, x) where acc is never NaN and a NaN in x is ignored: one instruction on x86, whose max
// gives its second operand then.
template <class T>
RT_INLINE Vec<T> running_max(const Vec<T>& acc, const Vec<T>& x) {
  if constexpr (HWY_ARCH_X86 && std::is_floating_point_v<T>) {
    Vec<T> v;
    RT_UNROLL for (int i = 0; i < kRegs<T>; ++i) v.r[i] = hn::Max(x.r[i], acc.r[i]);
    return v;
  } else {
    return maxnum(acc, x);
  }
}

template <class T>
RT_INLINE std::int64_t address(T* p) {
  return static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(p));
}
template <class T>
RT_INLINE T* at(void* arena, std::size_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(arena) + offset);
}

}  // namespace nereid::rt
