// Goal: tt.dot of int8 into int32: C[M, N] += A[M, K] B[K, N], exact, by blocks of rows x vectors
// that fill the registers. B is a panel of quads: word [k / 4][n] holds B[k .. k + 3][n].
// Non-goal: making the panel (the emitted code turns columns into it); K that is no multiple of 4.
// Rejected: hn::SumOfMulQuadAccumulate, which Highway has from 1.1 on and makes one instruction of
// only where all code is for AVX3_DL; the compiler's intrinsic, of whose sums GCC 12 keeps copies
// on the stack, at a third of the speed. An object for x86-64-v4 asks the processor when it runs.
#pragma once

#include "dot.h"

namespace nereid::rt {

// What a dot of quads is made of on this instruction set:
//   Operand   four bytes of a row of A in every lane, or of sixteen columns of B
//   add       sum + the products of a lane's four pairs, but for what `start` takes off before
// and the rows and vectors of a block that leave registers for both operands.

#if HWY_ARCH_X86 && HWY_COMPILER_GCC_ACTUAL && HWY_TARGET <= HWY_AVX2
#define RT_HAS_VNNI 1

// vpdpbusd multiplies unsigned by signed bytes: those of A are taken 128 larger, and that many
// columns of B off the sum.
struct Vnni {
  using Operand = Vec<std::int32_t>;
  static constexpr int kRows = 6, kVectors = HWY_TARGET <= HWY_AVX3 ? 4 : 1;

  static bool is_there() {
#if HWY_TARGET <= HWY_AVX3
    return __builtin_cpu_supports("avx512vnni");
#else
    return __builtin_cpu_supports("avxvnni");
#endif
  }
  RT_INLINE static Operand of_row(std::int32_t quad) {
    return set<std::int32_t>(quad) ^ set<std::int32_t>(std::int32_t(0x80808080u));
  }
  RT_INLINE static Operand of_columns(const Vec<std::int32_t>& quads) { return quads; }
  RT_INLINE static void add(Vec<std::int32_t>& sum, const Operand& a, const Operand& b) {
    RT_UNROLL for (int i = 0; i < kRegs<std::int32_t>; ++i) {
#if HWY_TARGET <= HWY_AVX3
      asm("vpdpbusd %2, %1, %0" : "+v"(sum.r[i].raw) : "v"(a.r[i].raw), "v"(b.r[i].raw));
#else
      asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.r[i].raw) : "x"(a.r[i].raw), "x"(b.r[i].raw));
#endif
    }
  }
  // sum + the products of the unsigned bytes of a with the signed ones of b.
  RT_INLINE static void add_quads(Vec<std::int32_t>& sum, const Vec<std::int32_t>& a,
                                  const Vec<std::int32_t>& b) {
    add(sum, a, b);
  }
  // Of the first n columns.
  static void start(const std::int32_t* b, std::int64_t ldb, std::int32_t* starts, std::int64_t n,
                    std::int64_t n_quads) {
    const Vec<std::int32_t> ones = set<std::int32_t>(0x01010101);
    for (std::int64_t j = 0; j < n; j += kVec) {
      Vec<std::int32_t> sum = set<std::int32_t>(0);
      for (std::int64_t k = 0; k < n_quads; ++k) add(sum, ones, load(b + k * ldb + j));
      store(starts + j, sum * set<std::int32_t>(-128), All{});
    }
  }
};
#else
#define RT_HAS_VNNI 0
#endif

#if HWY_ARCH_X86
// Bytes widened to 16 bits, even and odd ones, whose products are added two by two.
struct Pairs {
  struct Operand {
    hn::Vec<Tag<std::int32_t>> even[kRegs<std::int32_t>], odd[kRegs<std::int32_t>];
  };
  static constexpr int kRows = HWY_TARGET <= HWY_AVX3 ? 6 : 3,
                       kVectors = HWY_TARGET <= HWY_AVX3 ? 2 : 1;
  using Tag16 = hn::Repartition<std::int16_t, Tag<std::int32_t>>;

  RT_INLINE static Operand of_columns(const Vec<std::int32_t>& quads) {
    const Tag16 d;
    Operand x;
    RT_UNROLL for (int i = 0; i < kRegs<std::int32_t>; ++i) {
      const auto bytes = hn::BitCast(d, quads.r[i]);
      x.even[i] = hn::BitCast(Tag<std::int32_t>(), hn::ShiftRight<8>(hn::ShiftLeft<8>(bytes)));
      x.odd[i] = hn::BitCast(Tag<std::int32_t>(), hn::ShiftRight<8>(bytes));
    }
    return x;
  }
  RT_INLINE static Operand of_row(std::int32_t quad) { return of_columns(set<std::int32_t>(quad)); }
  RT_INLINE static void add(Vec<std::int32_t>& sum, const Operand& a, const Operand& b) {
    const Tag16 d;
    const Tag<std::int32_t> d32;
    RT_UNROLL for (int i = 0; i < kRegs<std::int32_t>; ++i) {
      auto none = hn::Zero(d32);  // on x86 all products are in the first sum
      sum.r[i] = hn::ReorderWidenMulAccumulate(d32, hn::BitCast(d, a.even[i]),
                                               hn::BitCast(d, b.even[i]), sum.r[i], none);
      sum.r[i] = hn::ReorderWidenMulAccumulate(d32, hn::BitCast(d, a.odd[i]),
                                               hn::BitCast(d, b.odd[i]), sum.r[i], none);
    }
  }
  RT_INLINE static void add_quads(Vec<std::int32_t>& sum, const Vec<std::int32_t>& a,
                                  const Vec<std::int32_t>& b) {
    const hn::RebindToUnsigned<Tag16> d;
    Operand x;
    RT_UNROLL for (int i = 0; i < kRegs<std::int32_t>; ++i) {
      const auto bytes = hn::BitCast(d, a.r[i]);
      x.even[i] = hn::BitCast(Tag<std::int32_t>(), hn::And(bytes, hn::Set(d, 255)));
      x.odd[i] = hn::BitCast(Tag<std::int32_t>(), hn::ShiftRight<8>(bytes));
    }
    add(sum, x, of_columns(b));
  }
  static void start(const std::int32_t*, std::int64_t, std::int32_t* starts, std::int64_t n,
                    std::int64_t) {
    std::fill(starts, starts + (n + kVec - 1) / kVec * kVec, 0);
  }
};
#else
// Byte by byte, as 32-bit numbers.
struct Pairs {
  struct Operand {
    Vec<std::int32_t> byte[4];
  };
  static constexpr int kRows = 3, kVectors = 1;

  RT_INLINE static Operand of_columns(const Vec<std::int32_t>& quads) {
    Operand x;
    unroll<4>([&](auto i) RT_BODY {
      RT_UNROLL for (int r = 0; r < kRegs<std::int32_t>; ++r) x.byte[i].r[r] =
          hn::ShiftRight<24>(hn::ShiftLeft<24 - 8 * i>(quads.r[r]));
    });
    return x;
  }
  RT_INLINE static Operand of_row(std::int32_t quad) { return of_columns(set<std::int32_t>(quad)); }
  RT_INLINE static void add(Vec<std::int32_t>& sum, const Operand& a, const Operand& b) {
    unroll<4>([&](auto i) RT_BODY { sum = sum + a.byte[i] * b.byte[i]; });
  }
  RT_INLINE static void add_quads(Vec<std::int32_t>& sum, const Vec<std::int32_t>& a,
                                  const Vec<std::int32_t>& b) {
    Operand x;
    unroll<4>([&](auto i) RT_BODY {
      RT_UNROLL for (int r = 0; r < kRegs<std::int32_t>; ++r) x.byte[i].r[r] =
          hn::And(hn::ShiftRight<8 * i>(a.r[r]), hn::Set(Tag<std::int32_t>(), 255));
    });
    add(sum, x, of_columns(b));
  }
  static void start(const std::int32_t*, std::int64_t, std::int32_t* starts, std::int64_t n,
                    std::int64_t) {
    std::fill(starts, starts + (n + kVec - 1) / kVec * kVec, 0);
  }
};
#endif

template <class How, int MR, int NV, class Mode>
RT_INLINE void quads_block(const std::int8_t* a, std::int64_t lda, const std::int32_t* b,
                           std::int64_t ldb, const std::int32_t* starts, std::int32_t* c,
                           std::int64_t ldc, std::int64_t n_quads, Mode) {
  Vec<std::int32_t> acc[MR][NV];
  unroll<MR>([&](auto i) RT_BODY {
    unroll<NV>([&](auto j) RT_BODY {
      acc[i][j] = load(starts + j * kVec);
      if constexpr (std::is_same_v<Mode, Add>) acc[i][j] = acc[i][j] + load(c + i * ldc + j * kVec);
    });
  });
  for (std::int64_t k = 0; k < n_quads; ++k) {
    typename How::Operand bv[NV];
    unroll<NV>([&](auto j) RT_BODY { bv[j] = How::of_columns(load(b + k * ldb + j * kVec)); });
    unroll<MR>([&](auto i) RT_BODY {
      const auto av =
          How::of_row(load_scalar(reinterpret_cast<const std::int32_t*>(a + i * lda + 4 * k)));
      unroll<NV>([&](auto j) RT_BODY { How::add(acc[i][j], av, bv[j]); });
    });
  }
  unroll<MR>([&](auto i) RT_BODY {
    unroll<NV>([&](auto j) RT_BODY { store(c + i * ldc + j * kVec, acc[i][j], All{}); });
  });
}

template <class How, int NV, class Mode>
inline void quads_panel(const std::int8_t* a, std::int64_t lda, const std::int32_t* b,
                        std::int64_t ldb, const std::int32_t* starts, std::int32_t* c,
                        std::int64_t ldc, std::int64_t m, std::int64_t n_quads, Mode mode) {
  // As dot_panel does: blocks of few sizes.
  constexpr int MR = How::kRows, kFew = MR / 3;
  std::int64_t i = 0;
  const auto blocks = [&]<int N>(Index<N>) {
    for (; i + N <= m; i += N)
      quads_block<How, N, NV>(a + i * lda, lda, b, ldb, starts, c + i * ldc, ldc, n_quads, mode);
  };
  blocks(Index<MR>());
  if constexpr (kFew > 1) blocks(Index<kFew>());
  blocks(Index<1>());
}

// N columns in the tile, a multiple of 16, of which the first n count; m rows.
template <class How, int N, class Mode>
inline void dot_quads_by(const std::int8_t* a, std::int64_t lda, const std::int32_t* b,
                         std::int32_t* c, std::int64_t m, std::int64_t n, std::int64_t n_quads,
                         Mode mode) {
  alignas(64) std::int32_t starts[N];
  How::start(b, N, starts, n, n_quads);
  std::int64_t j = 0;
  constexpr int NV = How::kVectors;
  if constexpr (NV > 1 && N >= NV * kVec)
    for (; j + (NV - 1) * kVec < n; j += NV * kVec)
      quads_panel<How, NV>(a, lda, b + j, N, starts + j, c + j, N, m, n_quads, mode);
  for (; j < n; j += kVec)
    quads_panel<How, 1>(a, lda, b + j, N, starts + j, c + j, N, m, n_quads, mode);
}

// f(way) with the best way that this processor has.
template <class F>
RT_INLINE void by_quads(F f) {
#if RT_HAS_VNNI
  if (Vnni::is_there()) return f(Vnni());
#endif
  f(Pairs());
}

template <class How>
RT_INLINE Vec<std::int32_t> add_quads(Vec<std::int32_t> sum, const Vec<std::int32_t>& a,
                                      const Vec<std::int32_t>& b) {
  How::add_quads(sum, a, b);
  return sum;
}

template <int N, class Mode>
inline void dot_quads(const std::int8_t* a, std::int64_t lda, const std::int32_t* b,
                      std::int32_t* c, std::int64_t m, std::int64_t n, std::int64_t n_quads,
                      Mode mode) {
  by_quads([&]<class How>(How) { dot_quads_by<How, N>(a, lda, b, c, m, n, n_quads, mode); });
}

}  // namespace nereid::rt
