// Goal: tt.dot: C[M, N] += A[M, K] B[K, N], fp32, row-major, by blocks of rows x vectors that fill
// the registers.
// Non-goal: packing: the emitted code promotes and transposes operands into such panels.
// Rejected: blocking K here: a tile program's K block is already a panel that fits the second-level
// cache.
#pragma once

#include "loops.h"

namespace nereid::rt {

// MR rows by NV vectors. B's row k starts at b + k * ldb.
template <int MR, int NV, class Active>
RT_INLINE void dot_block(const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                         float* c, std::int64_t ldc, std::int64_t k_count, Active active) {
  Vec<float> acc[MR][NV];
  unroll<MR>([&](auto i) RT_BODY {
    unroll<NV>([&](auto j) RT_BODY { acc[i][j] = load(c + i * ldc + j * kVec, active); });
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
template <int MR, int NV, class Active>
inline void dot_panel(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c,
                      std::int64_t ldc, std::int64_t m, std::int64_t k, Active active) {
  std::int64_t i = 0;
  for (; i + MR <= m; i += MR)
    dot_block<MR, NV>(a + i * lda, lda, b, ldb, c + i * ldc, ldc, k, active);
  constexpr int kFew = MR / 3;
  if constexpr (kFew > 1)
    for (; i + kFew <= m; i += kFew)
      dot_block<kFew, NV>(a + i * lda, lda, b, ldb, c + i * ldc, ldc, k, active);
  for (; i < m; ++i) dot_block<1, NV>(a + i * lda, lda, b, ldb, c + i * ldc, ldc, k, active);
}

// N columns in the tile, of which the first n count; m rows, k steps.
template <int N>
inline void dot(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c,
                std::int64_t ldc, std::int64_t m, std::int64_t n, std::int64_t k) {
  // Blocks that fill the register file: 32 registers on AVX-512 and NEON, 16 on AVX2.
  constexpr int kRegisters = HWY_TARGET <= HWY_AVX3 || !HWY_ARCH_X86 ? 32 : 16;
  constexpr int kPerVec = kRegs<float>;
  constexpr int kWide = kRegisters / kPerVec >= 32 ? 4 : 1;
  constexpr int kRowsWide = kWide == 4 ? 6 : kRegisters / kPerVec >= 8 ? 6 : 4;
  if constexpr (N < kVec) {
    dot_panel<kRowsWide, 1>(a, lda, b, ldb, c, ldc, m, k, FirstN{N});
  } else {
    std::int64_t j = 0;
    if constexpr (kWide == 4 && N >= 4 * kVec)
      for (; j + 3 * kVec < n; j += 4 * kVec)
        dot_panel<6, 4>(a, lda, b + j, ldb, c + j, ldc, m, k, All{});
    if constexpr (kWide == 4 && N == 2 * kVec)
      for (; j + kVec < n; j += 2 * kVec)
        dot_panel<12, 2>(a, lda, b + j, ldb, c + j, ldc, m, k, All{});
    for (; j < n; j += kVec) dot_panel<kRowsWide, 1>(a, lda, b + j, ldb, c + j, ldc, m, k, All{});
  }
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

// `strip` holds n_rows (at most 16) rows of K; they become columns: out[k * ld + r] = strip[r * K +
// k].
template <int K>
inline void transpose_strip(const float* strip, float* out, std::int64_t ld, int n_rows) {
  const hn::CappedTag<float, 4> d;
  int r = 0;
  if constexpr (K % 4 == 0) {
    for (; r + 4 <= n_rows; r += 4) {
      const float* in = strip + r * K;
      for (int k = 0; k < K; k += 4) {
        const auto r0 = hn::LoadU(d, in + k), r1 = hn::LoadU(d, in + K + k);
        const auto r2 = hn::LoadU(d, in + 2 * K + k), r3 = hn::LoadU(d, in + 3 * K + k);
        const auto a = hn::InterleaveLower(d, r0, r2), b = hn::InterleaveLower(d, r1, r3);
        const auto e = hn::InterleaveUpper(d, r0, r2), f = hn::InterleaveUpper(d, r1, r3);
        float* o = out + k * ld + r;
        hn::StoreU(hn::InterleaveLower(d, a, b), d, o);
        hn::StoreU(hn::InterleaveUpper(d, a, b), d, o + ld);
        hn::StoreU(hn::InterleaveLower(d, e, f), d, o + 2 * ld);
        hn::StoreU(hn::InterleaveUpper(d, e, f), d, o + 3 * ld);
      }
    }
  }
  for (; r < n_rows; ++r)
    for (int k = 0; k < K; ++k) out[k * ld + r] = strip[r * K + k];
}

}  // namespace nereid::rt
