// What the CPU compiler writes for small programs: vector loads, bounds instead of masks, nothing
// stored needlessly; and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "emit.h"
#include "ir.h"
#include "source_line.h"

namespace nereid::ttir {
namespace {

using testing::HasSubstr;
using testing::Not;

Emitted emit(const std::string& text) { return emit_cpp(*parse_module(text, "t.ttir"), "t.ttir"); }

std::string refusal(const std::string& text) {
  try {
    emit(text);
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

TEST(TtirEmit, a_masked_row_is_a_bounded_loop_of_vector_loads) {
  const Emitted e = emit(R"(module {
  tt.func public @twice(%out: !tt.ptr<f32>, %x: !tt.ptr<f16>, %n: i32) {
    %two = arith.constant dense<2.000000e+00> : tensor<256xf32>
    %c256 = arith.constant 256 : i32
    %pid = tt.get_program_id x : i32
    %first = arith.muli %pid, %c256 : i32
    %lane = tt.make_range {end = 256 : i32, start = 0 : i32} : tensor<256xi32>
    %firsts = tt.splat %first : i32 -> tensor<256xi32>
    %offs = arith.addi %firsts, %lane : tensor<256xi32>
    %ns = tt.splat %n : i32 -> tensor<256xi32>
    %mask = arith.cmpi slt, %offs, %ns : tensor<256xi32>
    %xs = tt.splat %x : !tt.ptr<f16> -> tensor<256x!tt.ptr<f16>>
    %px = tt.addptr %xs, %offs : tensor<256x!tt.ptr<f16>>, tensor<256xi32>
    %h = tt.load %px, %mask : tensor<256x!tt.ptr<f16>>
    %f = arith.extf %h : tensor<256xf16> to tensor<256xf32>
    %y = arith.mulf %f, %two : tensor<256xf32>
    %outs = tt.splat %out : !tt.ptr<f32> -> tensor<256x!tt.ptr<f32>>
    %po = tt.addptr %outs, %offs : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
    tt.store %po, %y, %mask : tensor<256x!tt.ptr<f32>>
    tt.return
  }
})");
  EXPECT_EQ(e.symbol, "twice");
  EXPECT_EQ(e.arena_bytes, 0u) << "nothing is stored but the result";
  EXPECT_THAT(e.source, HasSubstr("rt::for_lanes<256>("));
  EXPECT_THAT(e.source, HasSubstr("rt::load(p"));
  EXPECT_THAT(e.source, HasSubstr("rt::upto(active, "));
  EXPECT_THAT(e.source, Not(HasSubstr("gather")));
  EXPECT_THAT(e.source, Not(HasSubstr("iota"))) << "indices are analysed, not computed";
}

// A matrix times a vector, as linear_gemv has it: the sum is carried by the loop.
std::string gemv(const std::string& cache) {
  return R"(module {
  tt.func public @gemv(%y: !tt.ptr<f32>, %w: !tt.ptr<f16>, %x: !tt.ptr<f32>, %n: i32) {
    %zero = arith.constant dense<0.000000e+00> : tensor<64xf32>
    %c0 = arith.constant 0 : i32
    %c64 = arith.constant 64 : i32
    %lane = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %ws = tt.splat %w : !tt.ptr<f16> -> tensor<64x!tt.ptr<f16>>
    %pw0 = tt.addptr %ws, %lane : tensor<64x!tt.ptr<f16>>, tensor<64xi32>
    %xs = tt.splat %x : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %step = arith.constant dense<64> : tensor<64xi32>
    %r:2 = scf.for %k = %c0 to %n step %c64 iter_args(%acc = %zero, %pw = %pw0) -> (tensor<64xf32>, tensor<64x!tt.ptr<f16>>)  : i32 {
      %h = tt.load %pw)" +
         cache + R"( : tensor<64x!tt.ptr<f16>>
      %f = arith.extf %h : tensor<64xf16> to tensor<64xf32>
      %ks = tt.splat %k : i32 -> tensor<64xi32>
      %at = arith.addi %ks, %lane : tensor<64xi32>
      %px = tt.addptr %xs, %at : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
      %v = tt.load %px : tensor<64x!tt.ptr<f32>>
      %p = arith.mulf %f, %v : tensor<64xf32>
      %s = arith.addf %acc, %p : tensor<64xf32>
      %next = tt.addptr %pw, %step : tensor<64x!tt.ptr<f16>>, tensor<64xi32>
      scf.yield %s, %next : tensor<64xf32>, tensor<64x!tt.ptr<f16>>
    }
    %sum = "tt.reduce"(%r#0) <{axis = 0 : i32}> ({
    ^bb0(%a: f32, %b: f32):
      %c = arith.addf %a, %b : f32
      tt.reduce.return %c : f32
    }) : (tensor<64xf32>) -> f32
    tt.store %y, %sum : !tt.ptr<f32>
    tt.return
  }
})";
}

TEST(TtirEmit, a_carried_sum_lives_in_registers_and_a_carried_pointer_in_a_scalar) {
  const Emitted e = emit(gemv(""));
  EXPECT_EQ(e.arena_bytes, 0u);
  EXPECT_THAT(e.source, HasSubstr("rt::Vec<float> v_acc_tile[4];"));
  EXPECT_THAT(e.source, HasSubstr("v_pw_moved += 64;"));
  EXPECT_THAT(e.source, HasSubstr("rt::sum_lanes("));
  EXPECT_THAT(e.source, Not(HasSubstr("gather")));
  EXPECT_THAT(e.source, Not(HasSubstr("prefetch")));
}

TEST(TtirEmit, loads_that_are_read_once_are_prefetched) {
  const std::string policy =
      " {cachePolicy = #tt.cache_policy<cache_modifier = none, eviction_policy = evict_first>}";
  EXPECT_THAT(emit(gemv(policy)).source, HasSubstr("rt::prefetch_ahead("));
}

TEST(TtirEmit, a_transposed_operand_is_packed_and_the_sum_updated_in_place) {
  const Emitted e = emit(R"(module {
  tt.func public @product(%out: !tt.ptr<f32>, %a: !tt.ptr<f32>, %b: !tt.ptr<f16>, %m: i32) {
    %zero = arith.constant dense<0.000000e+00> : tensor<32x32xf32>
    %none = arith.constant dense<0.000000e+00> : tensor<32x32xf32>
    %c0 = arith.constant 0 : i32
    %c32 = arith.constant 32 : i32
    %c64 = arith.constant 64 : i32
    %width = arith.constant dense<64> : tensor<32x1xi32>
    %lane = tt.make_range {end = 32 : i32, start = 0 : i32} : tensor<32xi32>
    %rows = tt.expand_dims %lane {axis = 1 : i32} : tensor<32xi32> -> tensor<32x1xi32>
    %cols = tt.expand_dims %lane {axis = 0 : i32} : tensor<32xi32> -> tensor<1x32xi32>
    %ms = tt.splat %m : i32 -> tensor<32x1xi32>
    %in = arith.cmpi slt, %rows, %ms : tensor<32x1xi32>
    %mask = tt.broadcast %in : tensor<32x1xi1> -> tensor<32x32xi1>
    %starts = arith.muli %rows, %width : tensor<32x1xi32>
    %startss = tt.broadcast %starts : tensor<32x1xi32> -> tensor<32x32xi32>
    %as = tt.splat %a : !tt.ptr<f32> -> tensor<32x32x!tt.ptr<f32>>
    %bs = tt.splat %b : !tt.ptr<f16> -> tensor<32x32x!tt.ptr<f16>>
    %sum = scf.for %k = %c0 to %c64 step %c32 iter_args(%acc = %zero) -> (tensor<32x32xf32>)  : i32 {
      %ks = tt.splat %k : i32 -> tensor<1x32xi32>
      %kl = arith.addi %ks, %cols : tensor<1x32xi32>
      %kk = tt.broadcast %kl : tensor<1x32xi32> -> tensor<32x32xi32>
      %at = arith.addi %startss, %kk : tensor<32x32xi32>
      %pa = tt.addptr %as, %at : tensor<32x32x!tt.ptr<f32>>, tensor<32x32xi32>
      %x = tt.load %pa, %mask, %none : tensor<32x32x!tt.ptr<f32>>
      %pb = tt.addptr %bs, %at : tensor<32x32x!tt.ptr<f16>>, tensor<32x32xi32>
      %h = tt.load %pb : tensor<32x32x!tt.ptr<f16>>
      %w = arith.extf %h : tensor<32x32xf16> to tensor<32x32xf32>
      %t = tt.trans %w {order = array<i32: 1, 0>} : tensor<32x32xf32> -> tensor<32x32xf32>
      %d = tt.dot %x, %t, %acc : tensor<32x32xf32> * tensor<32x32xf32> -> tensor<32x32xf32>
      scf.yield %d : tensor<32x32xf32>
    }
    %os = tt.splat %out : !tt.ptr<f32> -> tensor<32x32x!tt.ptr<f32>>
    %colss = tt.broadcast %cols : tensor<1x32xi32> -> tensor<32x32xi32>
    %o = arith.addi %startss, %colss : tensor<32x32xi32>
    %po = tt.addptr %os, %o : tensor<32x32x!tt.ptr<f32>>, tensor<32x32xi32>
    tt.store %po, %sum, %mask : tensor<32x32x!tt.ptr<f32>>
    tt.return
  }
})");
  // The sum, the packed operand and its strip; the fp32 operand is read where it lies, its rows in
  // use only.
  EXPECT_EQ(e.arena_bytes, 4096u + 4096u + 2048u + 128u);
  EXPECT_THAT(e.source, HasSubstr("rt::transpose_strip<32>("));
  EXPECT_THAT(e.source, HasSubstr("rt::dot<32>(v_a + ("));
  EXPECT_THAT(e.source, HasSubstr(", 32, rt::Add());")) << "the sum is carried";
  EXPECT_THAT(e.source, HasSubstr("rt::least(32, rt::i64(v_m))"));
  EXPECT_THAT(e.source, Not(HasSubstr("memcpy")));
}

// A matrix of fp16 times a vector of type x.
std::string rows_times(const std::string& x) {
  const std::string widened =
      x == "f32" ? "" : "\n      %xk = arith.extf %xl : tensor<64x" + x + "> to tensor<64xf32>";
  const std::string loaded = x == "f32" ? "%xk" : "%xl";
  return R"(module {
  tt.func public @gemv(%y: !tt.ptr<f32>, %x: !tt.ptr<)" +
         x + R"(>, %w: !tt.ptr<f16>, %n: i32) {
    %zero = arith.constant dense<0.000000e+00> : tensor<8x64xf32>
    %c0 = arith.constant 0 : i32
    %c64 = arith.constant 64 : i32
    %rows = tt.make_range {end = 8 : i32, start = 0 : i32} : tensor<8xi32>
    %column = tt.expand_dims %rows {axis = 1 : i32} : tensor<8xi32> -> tensor<8x1xi32>
    %ns = tt.splat %n : i32 -> tensor<8x1xi32>
    %starts = arith.muli %column, %ns : tensor<8x1xi32>
    %ws = tt.splat %w : !tt.ptr<f16> -> tensor<8x1x!tt.ptr<f16>>
    %w0 = tt.addptr %ws, %starts : tensor<8x1x!tt.ptr<f16>>, tensor<8x1xi32>
    %w1 = tt.broadcast %w0 : tensor<8x1x!tt.ptr<f16>> -> tensor<8x64x!tt.ptr<f16>>
    %lanes = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %xs = tt.splat %x : !tt.ptr<)" +
         x + R"(> -> tensor<64x!tt.ptr<)" + x + R"(>>
    %sum = scf.for %k = %c0 to %n step %c64 iter_args(%acc = %zero) -> (tensor<8x64xf32>)  : i32 {
      %ks = tt.splat %k : i32 -> tensor<64xi32>
      %kl = arith.addi %ks, %lanes : tensor<64xi32>
      %px = tt.addptr %xs, %kl : tensor<64x!tt.ptr<)" +
         x + R"(>>, tensor<64xi32>
      )" +
         loaded + R"( = tt.load %px : tensor<64x!tt.ptr<)" + x + R"(>>)" + widened + R"(
      %xr = tt.expand_dims %xk {axis = 0 : i32} : tensor<64xf32> -> tensor<1x64xf32>
      %xb = tt.broadcast %xr : tensor<1x64xf32> -> tensor<8x64xf32>
      %kr = tt.expand_dims %kl {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
      %kb = tt.broadcast %kr : tensor<1x64xi32> -> tensor<8x64xi32>
      %pw = tt.addptr %w1, %kb : tensor<8x64x!tt.ptr<f16>>, tensor<8x64xi32>
      %h = tt.load %pw : tensor<8x64x!tt.ptr<f16>>
      %wk = arith.extf %h : tensor<8x64xf16> to tensor<8x64xf32>
      %p = arith.mulf %wk, %xb : tensor<8x64xf32>
      %next = arith.addf %acc, %p : tensor<8x64xf32>
      scf.yield %next : tensor<8x64xf32>
    }
    %total = "tt.reduce"(%sum) <{axis = 1 : i32}> ({
    ^bb0(%a: f32, %b: f32):
      %s = arith.addf %a, %b : f32
      tt.reduce.return %s : f32
    }) : (tensor<8x64xf32>) -> tensor<8xf32>
    %ys = tt.splat %y : !tt.ptr<f32> -> tensor<8x!tt.ptr<f32>>
    %py = tt.addptr %ys, %rows : tensor<8x!tt.ptr<f32>>, tensor<8xi32>
    tt.store %py, %total : tensor<8x!tt.ptr<f32>>
    tt.return
  }
})";
}

TEST(TtirEmit, rows_that_are_only_summed_go_through_their_loop_in_registers) {
  const Emitted e = emit(rows_times("f32"));
  EXPECT_THAT(e.source, HasSubstr("constexpr int rows_at_once = 1;")) << "x is only loaded";
  EXPECT_THAT(e.source, HasSubstr("row_at < 8; row_at += rows_at_once) {"));
  EXPECT_THAT(e.source, HasSubstr("_tile[rows_at_once][4];")) << "a few rows, not a matrix";
  EXPECT_THAT(e.source, HasSubstr(" + row) = rt::sum_lanes("));
  EXPECT_EQ(e.arena_bytes, 64u + 128u) << "the eight sums alone";
}

TEST(TtirEmit, rows_go_together_where_something_is_computed_for_all_of_them) {
  EXPECT_THAT(emit(rows_times("f16")).source,
              HasSubstr("constexpr int rows_at_once = rt::rows_at_once(8, 4);"));
}

// The four products of the bytes of words, of which those of `last` are the last ones.
std::string sum_of_quads(const std::string& last) {
  return R"(module {
  tt.func public @quads(%y: !tt.ptr<i32>, %a: !tt.ptr<i32>, %b: !tt.ptr<i32>) {
    %c8 = arith.constant dense<8> : tensor<32xi32>
    %c16 = arith.constant dense<16> : tensor<32xi32>
    %c24 = arith.constant dense<24> : tensor<32xi32>
    %c255 = arith.constant dense<255> : tensor<32xi32>
    %lane = tt.make_range {end = 32 : i32, start = 0 : i32} : tensor<32xi32>
    %as = tt.splat %a : !tt.ptr<i32> -> tensor<32x!tt.ptr<i32>>
    %bs = tt.splat %b : !tt.ptr<i32> -> tensor<32x!tt.ptr<i32>>
    %ys = tt.splat %y : !tt.ptr<i32> -> tensor<32x!tt.ptr<i32>>
    %pa = tt.addptr %as, %lane : tensor<32x!tt.ptr<i32>>, tensor<32xi32>
    %pb = tt.addptr %bs, %lane : tensor<32x!tt.ptr<i32>>, tensor<32xi32>
    %py = tt.addptr %ys, %lane : tensor<32x!tt.ptr<i32>>, tensor<32xi32>
    %wa = tt.load %pa : tensor<32x!tt.ptr<i32>>
    %wb = tt.load %pb : tensor<32x!tt.ptr<i32>>
    %sum = tt.load %py : tensor<32x!tt.ptr<i32>>
    %a0 = arith.andi %wa, %c255 : tensor<32xi32>
    %l0 = arith.shli %wb, %c24 : tensor<32xi32>
    %b0 = arith.shrsi %l0, %c24 : tensor<32xi32>
    %r1 = arith.shrui %wa, %c8 : tensor<32xi32>
    %a1 = arith.andi %r1, %c255 : tensor<32xi32>
    %l1 = arith.shli %wb, %c16 : tensor<32xi32>
    %b1 = arith.shrsi %l1, %c24 : tensor<32xi32>
    %r2 = arith.shrsi %wa, %c16 : tensor<32xi32>
    %a2 = arith.andi %r2, %c255 : tensor<32xi32>
    %l2 = arith.shli %wb, %c8 : tensor<32xi32>
    %b2 = arith.shrsi %l2, %c24 : tensor<32xi32>
    %r3 = arith.shrsi %wa, %c24 : tensor<32xi32>
    %a3 = arith.andi %r3, %c255 : tensor<32xi32>
    %b3 = arith.shrsi %wb, %c24 : tensor<32xi32>
    %p0 = arith.muli %a0, %b0 : tensor<32xi32>
    %p1 = arith.muli %b1, %a1 : tensor<32xi32>
    %p2 = arith.muli %a2, %b2 : tensor<32xi32>
    %p3 = arith.muli )" +
         last + R"( : tensor<32xi32>
    %s0 = arith.addi %sum, %p0 : tensor<32xi32>
    %s1 = arith.addi %s0, %p1 : tensor<32xi32>
    %s2 = arith.addi %s1, %p2 : tensor<32xi32>
    %s3 = arith.addi %s2, %p3 : tensor<32xi32>
    tt.store %py, %s3 : tensor<32x!tt.ptr<i32>>
    tt.return
  }
})";
}

TEST(TtirEmit, products_of_four_bytes_are_one_sum_in_the_way_that_the_processor_has) {
  const std::string source = emit(sum_of_quads("%a3, %b3")).source;
  EXPECT_THAT(source, HasSubstr("rt::add_quads<Quads>("));
  EXPECT_THAT(source, HasSubstr("rt::by_quads("));
  EXPECT_THAT(source, Not(HasSubstr("shift_right"))) << "nothing of the bytes is left";
  // The last byte of the one with the third of the other.
  const std::string other = emit(sum_of_quads("%a3, %b2")).source;
  EXPECT_THAT(other, Not(HasSubstr("quads<")));
  EXPECT_THAT(other, HasSubstr("shift_right"));
}

TEST(TtirEmit, columns_of_factors_do_not_outvote_the_matrix_they_scale) {
  const Emitted e = emit(R"(module {
  tt.func public @scale(%y: !tt.ptr<f32>, %x: !tt.ptr<f32>, %f: !tt.ptr<f32>, %g: !tt.ptr<f32>) {
    %c64 = arith.constant dense<64> : tensor<64x1xi32>
    %lanes = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %row = tt.expand_dims %lanes {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
    %column = tt.expand_dims %lanes {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
    %starts = arith.muli %column, %c64 : tensor<64x1xi32>
    %r = tt.broadcast %row : tensor<1x64xi32> -> tensor<64x64xi32>
    %s = tt.broadcast %starts : tensor<64x1xi32> -> tensor<64x64xi32>
    %at = arith.addi %r, %s : tensor<64x64xi32>
    %xs = tt.splat %x : !tt.ptr<f32> -> tensor<64x64x!tt.ptr<f32>>
    %px = tt.addptr %xs, %at : tensor<64x64x!tt.ptr<f32>>, tensor<64x64xi32>
    %v = tt.load %px : tensor<64x64x!tt.ptr<f32>>
    %fs = tt.splat %f : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %pf = tt.addptr %fs, %lanes : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    %f0 = tt.load %pf : tensor<64x!tt.ptr<f32>>
    %f1 = tt.expand_dims %f0 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
    %f2 = tt.broadcast %f1 : tensor<64x1xf32> -> tensor<64x64xf32>
    %gs = tt.splat %g : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %pg = tt.addptr %gs, %lanes : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    %g0 = tt.load %pg : tensor<64x!tt.ptr<f32>>
    %g1 = tt.expand_dims %g0 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
    %g2 = tt.broadcast %g1 : tensor<64x1xf32> -> tensor<64x64xf32>
    %a = arith.mulf %v, %f2 : tensor<64x64xf32>
    %b = arith.addf %a, %g2 : tensor<64x64xf32>
    %sum = "tt.reduce"(%b) <{axis = 1 : i32}> ({
    ^bb0(%p: f32, %q: f32):
      %t = arith.addf %p, %q : f32
      tt.reduce.return %t : f32
    }) : (tensor<64x64xf32>) -> tensor<64xf32>
    %ys = tt.splat %y : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %py = tt.addptr %ys, %lanes : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store %py, %sum : tensor<64x!tt.ptr<f32>>
    tt.return
  }
})");
  EXPECT_THAT(e.source, Not(HasSubstr("strided"))) << "rows of the matrix are read as they lie";
  EXPECT_THAT(e.source, HasSubstr(" + i0, rt::sum_lanes(rows));")) << "sixteen rows together";
}

TEST(TtirEmit, a_load_is_kept_where_a_store_comes_between_it_and_its_use) {
  const std::string text = R"(module {
  tt.func public @two(%x: !tt.ptr<f32>) {
    %one = arith.constant dense<1> : tensor<64xi32>
    %lane = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %xs = tt.splat %x : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %p = tt.addptr %xs, %lane : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    %v = tt.load %p : tensor<64x!tt.ptr<f32>>
    %next = arith.addi %lane, %one : tensor<64xi32>
    %q = tt.addptr %xs, %next : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store TARGET, %v : tensor<64x!tt.ptr<f32>>
    tt.return
  }
})";
  const auto to = [&](const std::string& target) {
    std::string t = text;
    return t.replace(t.find("TARGET"), 6, target);
  };
  EXPECT_EQ(emit(to("%p")).arena_bytes, 0u) << "the same elements: no copy";
  EXPECT_GT(emit(to("%q")).arena_bytes, 0u) << "shifted: all is read before any is written";
}

TEST(TtirEmit, what_is_not_supported_is_named_with_kernel_and_line) {
  const std::string bytes = refusal(R"(module {
  tt.func public @bytes(%x: !tt.ptr<i8>) {
    %a = arith.constant dense<1> : tensor<16x16xi16>
    %c = arith.constant dense<0> : tensor<16x16xi32>
    %d = tt.dot %a, %a, %c : tensor<16x16xi16> * tensor<16x16xi16> -> tensor<16x16xi32>
    tt.return
  }
})");
  EXPECT_THAT(bytes, HasSubstr("kernel bytes:5: tt.dot: "));
  EXPECT_THAT(bytes, HasSubstr("expected floats, or i8 into i32"));
  const std::string unknown = refusal(R"(module {
  tt.func public @unknown(%x: f32) {
    %y = tt.extern_elementwise %x {libname = "", libpath = "", pure = true, symbol = "__nv_byte_permf"} : (f32) -> f32
    tt.return
  }
})");
  EXPECT_THAT(unknown, HasSubstr("kernel unknown:3: tt.extern_elementwise: "));
  EXPECT_THAT(unknown, HasSubstr("__nv_byte_permf"));
}

TEST(TtirEmit, assembly_that_is_not_in_the_table_is_refused_by_name) {
  const auto with = [](const std::string& text, const std::string& constraints = "=r,r",
                       const std::string& type = "i32") {
    return refusal("module {\n  tt.func public @k(%x: " + type +
                   ") {\n    %y = tt.elementwise_inline_asm \"" + text + "\" {constraints = \"" +
                   constraints + "\", packed_element = 1 : i32, pure = true} %x : " + type +
                   " -> i32\n    tt.return\n  }\n}");
  };
  EXPECT_EQ(with("mov.b32 $0, $1;"), "accepted");
  EXPECT_EQ(with("{ .reg .b32 a<2>; not.b32 a1, $1; mov.b32 $0, a1; } // twice"), "accepted");
  const std::string unknown = with("vadd4.u32 $0, $1, $1;");
  EXPECT_THAT(unknown, HasSubstr("kernel k:3: tt.elementwise_inline_asm: vadd4.u32: instruction "
                                 "not supported; there are mov.b16 "));
  EXPECT_THAT(unknown, HasSubstr(" lop3.b32 "));
  EXPECT_THAT(with("ld.global.b32 $0, [$1];"), HasSubstr("ld.global.b32: instruction not supp"));
  EXPECT_THAT(with("@p mov.b32 $0, $1;"), HasSubstr("predicates are not supported"));
  EXPECT_THAT(with("mov.b32 $0, %smid;"), HasSubstr("there is no %smid on a CPU"));
  EXPECT_THAT(with("mov.b32 $0, $2;"), HasSubstr("there is no register $2"));
  EXPECT_THAT(with("mov.b32 $0, t;"), HasSubstr("there is no register t"));
  EXPECT_THAT(with("mov.b16 $0, $1;"), HasSubstr("$1 has 32 bits; expected 16"));
  EXPECT_THAT(with("and.b32 $0, $1;"), HasSubstr("and.b32: 2 operands; expected 3"));
  EXPECT_THAT(with("and.b32 $0, $1, 0x100000000;"), HasSubstr("is no number of 32 bits"));
  EXPECT_THAT(with("mov.b32 $0, $1"), HasSubstr("mov.b32: expected ';'"));
  EXPECT_THAT(with(".reg .pred p; mov.b32 $0, $1;"), HasSubstr("registers of type .pred"));
  EXPECT_THAT(with("/* mov.b32 $0, $1;"), HasSubstr("a comment does not end"));
  EXPECT_THAT(with("mov.b32 $0, $1;", "=r,m"), HasSubstr("constraint 'm'; expected one of"));
  EXPECT_THAT(with("mov.b32 $0, $1;", "=r,r,r"), HasSubstr("3 constraints for 2 registers"));
  EXPECT_THAT(with("mov.b32 $0, 1;", "=r,r", "i64"), HasSubstr("$1 has 32 bits for 1 of i64"));
  EXPECT_THAT(with("mov.b32 $0, 1;", "=r,r", "i1"), HasSubstr("booleans are not supported"));
}

TEST(TtirEmit, an_error_names_the_python_line_that_its_line_of_the_text_names) {
  const std::string text =
      "module {\n  tt.func public @k() {\n    %0 = foo.bar : i32  // kernel.py:12 from other.py:3\n"
      "    %1 = foo.bar : i32  // pred: ^bb0\n    %2 = foo.bar : i32\n";
  EXPECT_EQ(with_source_line("k.ttir:3: no such", text),
            "k.ttir:3: no such (at kernel.py:12 from other.py:3)");
  EXPECT_EQ(with_source_line("k.ttir: kernel k:3: no such", text),
            "k.ttir: kernel k:3: no such (at kernel.py:12 from other.py:3)");
  for (const char* same : {"k.ttir:4: x", "k.ttir:5: x", "k.ttir:99: x", "k.ttir: x", ""})
    EXPECT_EQ(with_source_line(same, text), same);
}

}  // namespace
}  // namespace nereid::ttir
