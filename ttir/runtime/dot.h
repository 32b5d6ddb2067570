// Goal: tt.dot: C[M, N] += A[M, K] B[K, N], fp32, row-major, by blocks of rows x vectors that fill
// the registers.
// Non-goal: packing: the emitted code promotes and transposes operands into such panels.
// Rejected: blocking K here: a tile program's K block is already a panel that fits the second-level
// cache.
#pragma once

#include "loops.h"

namespace nereid::rt {

// Whether a product is added to what C holds, or is all that C holds then.
struct Add {};
struct Set {};

// MR rows by NV vectors. B's row k starts at b + k * ldb.
template <int MR, int NV, class Mode, class Active>
RT_INLINE void dot_block(const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                         float* c, std::int64_t ldc, std::int64_t k_count, Mode, Active active) {
  Vec<float> acc[MR][NV];
  unroll<MR>([&](auto i) RT_BODY {
    unroll<NV>([&](auto j) RT_BODY {
      if constexpr (std::is_same_v<Mode, Set>)
        acc[i][j] = set<float>(0.0f);
      else
        acc[i][j] = load(c + i * ldc + j * kVec, active);
    });
  });
  for (std::int64_t k = 0; k < k_count; ++k) {
    Vec<float> bv[NV];
    unroll<NV>([&](auto j) RT_BODY { bv[j] = load(b + k * ldb + j * kVec, active); });
    unroll<MR>([&](auto i) RT_BODY {
      const Vec<float> av = set<float>(a[i * lda + k]);
      unroll<NV>([&](auto j) RT_BODY { acc[i][j] = fma(av, bv[j], acc[i][j]); });
    });
  }
  unroll<MR>([&](auto i) RT_BODY {
    unroll<NV>([&](auto j) RT_BODY { store(c + i * ldc + j * kVec, acc[i][j], active); });
  });
}

// All m rows of a panel of NV vectors: blocks of MR rows, then of a third of that, then single
// ones. Few sizes: each costs a tenth of a second to compile.
template <int MR, int NV, class Mode, class Active>
inline void dot_panel(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c,
                      std::int64_t ldc, std::int64_t m, std::int64_t k, Mode mode, Active active) {
  std::int64_t i = 0;
  for (; i + MR <= m; i += MR)
    dot_block<MR, NV>(a + i * lda, lda, b, ldb, c + i * ldc, ldc, k, mode, active);
  constexpr int kFew = MR / 3;
  if constexpr (kFew > 1)
    for (; i + kFew <= m; i += kFew)
      dot_block<kFew, NV>(a + i * lda, lda, b, ldb, c + i * ldc, ldc, k, mode, active);
  for (; i < m; ++i) dot_block<1, NV>(a + i * lda, lda, b, ldb, c + i * ldc, ldc, k, mode, active);
}

// N columns in the tile, of which the first n count; m rows, k steps.
template <int N, class Mode>
inline void dot(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c,
                std::int64_t ldc, std::int64_t m, std::int64_t n, std::int64_t k, Mode mode) {
  // Blocks that fill the register file.
  constexpr int kPerVec = kRegs<float>;
  constexpr int kWide = kRegisters / kPerVec >= 32 ? 4 : 1;
  constexpr int kRowsWide = kWide == 4 ? 6 : kRegisters / kPerVec >= 8 ? 6 : 4;
  if constexpr (N < kVec) {
    dot_panel<kRowsWide, 1>(a, lda, b, ldb, c, ldc, m, k, mode, FirstN{N});
  } else {
    std::int64_t j = 0;
    if constexpr (kWide == 4 && N >= 4 * kVec)
      for (; j + 3 * kVec < n; j += 4 * kVec)
        dot_panel<6, 4>(a, lda, b + j, ldb, c + j, ldc, m, k, mode, All{});
    if constexpr (kWide == 4 && N == 2 * kVec)
      for (; j + kVec < n; j += 2 * kVec)
        dot_panel<12, 2>(a, lda, b + j, ldb, c + j, ldc, m, k, mode, All{});
    for (; j < n; j += kVec)
      dot_panel<kRowsWide, 1>(a, lda, b + j, ldb, c + j, ldc, m, k, mode, All{});
  }
}

// What a product leaves of a tile of M rows: zero beyond its m rows and the vectors of its n
// columns.
template <int M, int N, class T>
inline void zero_rest(T* c, std::int64_t m, std::int64_t n) {
  const std::int64_t first = std::min<std::int64_t>((n + kVec - 1) / kVec * kVec, N);
  for (std::int64_t i = 0; i < M; ++i)
    for (std::int64_t j = i < m ? first : 0; j < N; ++j) c[i * N + j] = T(0);
}

// Operands of any one type, summed in the type of c: int8 into int32, fp64. Four rows at a time.
template <int N, class In, class Sum>
inline void dot_plain(const In* a, std::int64_t lda, const In* b, std::int64_t ldb, Sum* c,
                      std::int64_t ldc, std::int64_t m, std::int64_t n, std::int64_t k_count) {
  const auto rows = [&]<int MR>(std::integral_constant<int, MR>, std::int64_t i) {
    for (std::int64_t j = 0; j < n; j += kVec) {
      const FirstN active{N - j};
      Vec<Sum> acc[MR];
      for (int r = 0; r < MR; ++r) acc[r] = load(c + (i + r) * ldc + j, active);
      for (std::int64_t k = 0; k < k_count; ++k) {
        const Vec<Sum> bv = to<Sum>(load(b + k * ldb + j, active));
        for (int r = 0; r < MR; ++r) acc[r] = acc[r] + set<Sum>(Sum(a[(i + r) * lda + k])) * bv;
      }
      for (int r = 0; r < MR; ++r) store(c + (i + r) * ldc + j, acc[r], active);
    }
  };
  std::int64_t i = 0;
  for (; i + 4 <= m; i += 4) rows(Index<4>(), i);
  for (; i < m; ++i) rows(Index<1>(), i);
}

// Sixteen rows of sixteen columns, turned: out[k * ld + r] = in[r * K + k].
template <int K>
RT_INLINE void transpose_block(const float* in, float* out, std::int64_t ld) {
  using D = Tag<float>;
  using V = hn::Vec<D>;
  const D d;
  constexpr int kBlocks = kLanes<float> / 4;  // of 128 bits in a register
  for (int part = 0; part < kRegs<float>; ++part) {
    // Turned within blocks: rows[g][j] holds in its block b column 4 b + j of the rows 4 g to 4 g
    // + 3.
    V rows[4][4];
    unroll<4>([&](auto g) RT_BODY {
      const float* p = in + 4 * g * K + part * kLanes<float>;
      const V r0 = hn::LoadU(d, p), r1 = hn::LoadU(d, p + K);
      const V r2 = hn::LoadU(d, p + 2 * K), r3 = hn::LoadU(d, p + 3 * K);
      const V a = hn::InterleaveLower(d, r0, r2), b = hn::InterleaveLower(d, r1, r3);
      const V e = hn::InterleaveUpper(d, r0, r2), f = hn::InterleaveUpper(d, r1, r3);
      rows[g][0] = hn::InterleaveLower(d, a, b);
      rows[g][1] = hn::InterleaveUpper(d, a, b);
      rows[g][2] = hn::InterleaveLower(d, e, f);
      rows[g][3] = hn::InterleaveUpper(d, e, f);
    });
    unroll<4>([&](auto j) RT_BODY {
      const auto to = [&](int block) { return out + (part * kLanes<float> + 4 * block + j) * ld; };
      if constexpr (kBlocks == 4) {
        unroll<2>([&](auto half) RT_BODY {
          const auto pair = [&](const V& high, const V& low) RT_BODY {
            return half == 0 ? hn::ConcatLowerLower(d, high, low)
                             : hn::ConcatUpperUpper(d, high, low);
          };
          const V even = pair(rows[2][j], rows[0][j]), odd = pair(rows[3][j], rows[1][j]);
          hn::StoreU(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(odd), even), d, to(2 * half));
          hn::StoreU(hn::OddEvenBlocks(odd, hn::SwapAdjacentBlocks(even)), d, to(2 * half + 1));
        });
      } else if constexpr (kBlocks == 2) {
        unroll<2>([&](auto g) RT_BODY {
          const V &low = rows[2 * g][j], &high = rows[2 * g + 1][j];
          hn::StoreU(hn::ConcatLowerLower(d, high, low), d, to(0) + 8 * g);
          hn::StoreU(hn::ConcatUpperUpper(d, high, low), d, to(1) + 8 * g);
        });
      } else {
        unroll<4>([&](auto g) RT_BODY { hn::StoreU(rows[g][j], d, to(0) + 4 * g); });
      }
    });
  }
}

// `strip` holds n_rows (at most 16) rows of K; they become columns: out[k * ld + r] = strip[r * K +
// k].
template <int K>
inline void transpose_strip(const float* strip, float* out, std::int64_t ld, int n_rows) {
  if constexpr (K % kVec == 0) {
    if (n_rows == kVec) {
      for (int k = 0; k < K; k += kVec) transpose_block<K>(strip + k, out + k * ld, ld);
      return;
    }
  }
  for (int r = 0; r < n_rows; ++r)
    for (int k = 0; k < K; ++k) out[k * ld + r] = strip[r * K + k];
}

}  // namespace nereid::rt
