// Clusters: which row operations become one kernel and which must not, what their text says, and
// that layers share a kernel.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "base/error.h"
#include "graph/cluster.h"
#include "graph/passes/passes.h"
#include "graph/triton_source.h"
#include "program/lower.h"

namespace nereid::graph {
namespace {

const program::Bounds kPrefill{
    {.n_tokens = 512, .n_sequences = 4, .n_logits = 4, .max_query_tokens = 512}, false, "cpu"};

const program::KernelTables& tables() {
  static const auto tables = program::KernelTables::builtin();
  return tables;
}

std::vector<program::PlannedLaunch> launches_on(const Graph& graph, const char* target) {
  auto steps = kPrefill;
  steps.target = target;
  return program::lower(graph, steps, tables());
}

// Two layers of residual, norm and product; what each layer's sum gives is read twice.
constexpr const char* kLayers = R"(graph layers {
  input %x: fp16[T, 128]
  input %y: fp16[T, 128]
  weight %g0: fp16[128]
  weight %g1: fp16[128]
  weight %w0: fp16[128, 128]
  %5: fp16[T, 128] = add %x, %y {alpha = 0.22}
  %6: fp16[T, 128] = rms_norm %5, %g0 {eps = 1e-05}
  %7: fp16[T, 128] = linear %6, %w0
  %8: fp16[T, 128] = silu_mul %7, %6
  %9: fp16[T, 128] = add %5, %8 {alpha = 0.22}
  %10: fp16[T, 128] = rms_norm %9, %g1 {eps = 1e-05}
  return %9, %10
}
)";

Graph fused(const std::string& text, const std::set<std::string>& skip = {}) {
  return run_passes(parse(text, "g"), {.skip = skip, .observe = {}});
}

std::size_t count(const Graph& graph, Op op) {
  return static_cast<std::size_t>(std::ranges::count(graph.nodes, op, &Node::op));
}

std::string error_of(const std::string& text) {
  try {
    verify(parse(text, "g"));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// A graph of one input x, rows of 128, and a vector g; its statements; what it returns.
std::string graph_of(const std::string& statements, const std::string& results) {
  return "graph g {\n  input %x: fp32[T, 128]\n  weight %g: fp16[128]\n  weight %w: fp16[128, "
         "128]\n" +
         statements + "  return " + results + "\n}\n";
}

TEST(FusePointwise, WhatLiesSideBySideBecomesOne) {
  EXPECT_EQ(print(fused(kLayers)), R"(graph layers {
  input %x: fp16[T, 128]
  input %y: fp16[T, 128]
  weight %g0: fp16[128]
  %3: fp16[T, 128], %4: fp16[T, 128] = cluster %x, %y, %g0 {body = "added = add x, y {alpha = 0.22}; normed = rms_norm added, weight; return added, normed"}
  weight %w0: fp16[128, 128]
  %6: fp16[T, 128] = linear %4, %w0
  weight %g1: fp16[128]
  %8: fp16[T, 128], %9: fp16[T, 128] = cluster %6, %4, %3, %g1 {body = "gated = silu_mul gate, up; added = add x, gated {alpha = 0.22}; normed = rms_norm added, weight; return added, normed"}
  return %8, %9
}
)");
}

TEST(FusePointwise, TakenApartAndFusedAgainItIsTheSameText) {
  const Graph graph = fused(kLayers);
  const Graph apart = decompose(graph);
  EXPECT_EQ(count(apart, Op::cluster), 0U);
  EXPECT_EQ(apart.nodes.size(), parse(kLayers, "g").nodes.size());
  EXPECT_EQ(print(run_passes(apart)), print(graph));
  EXPECT_EQ(print(run_passes(graph)), print(graph)) << "done after one run";
  EXPECT_EQ(parse(print(graph), "printed"), graph);
}

TEST(FusePointwise, CanBeLeftOut) {
  const Graph graph = fused(kLayers, {"fuse_pointwise"});
  EXPECT_EQ(count(graph, Op::cluster), 0U);
  EXPECT_EQ(
      count(program::legalise(graph, kPrefill, tables().specs, {"fuse_pointwise"}), Op::cluster),
      0U);
  EXPECT_EQ(count(program::legalise(graph, kPrefill, tables().specs), Op::cluster), 2U);
}

TEST(FusePointwise, LayersShareAKernelWhateverTheirWeightsAreCalled) {
  std::string text = "graph g {\n  input %x: fp32[T, 128]\n  input %y: fp32[T, 128]\n";
  std::string x = "x";
  for (int layer = 0; layer < 8; ++layer) {
    text += fmt::format(
        "  weight %g{0}: fp16[128]\n  weight %w{0}: fp16[128, 128]\n"
        "  %sum{0}: fp32[T, 128] = add %{1}, %y\n  %n{0}: fp32[T, 128] = rms_norm %sum{0}, %g{0}\n"
        "  %p{0}: fp32[T, 128] = linear %n{0}, %w{0}\n  %t{0}: fp32[T, 128] = add %p{0}, %sum{0}\n",
        layer, x);
    x = fmt::format("t{}", layer);
  }
  const Graph graph = fused(text + "  return %" + x + "\n}\n", {"fuse_norm", "fuse_residual"});
  for (const char* target : {"cpu", "cuda:90", "hip:gfx942"}) {
    std::set<std::string> keys;
    std::size_t n_launches = 0;
    for (const auto& launch : launches_on(graph, target)) {
      if (!launch.choice->request.generated) continue;
      ++n_launches;
      keys.insert(launch.choice->request.key());
      EXPECT_EQ(launch.choice->request.kernel, launch.choice->request.generated->spec.name);
      EXPECT_THAT(launch.choice->request.generated->source,
                  testing::HasSubstr("def " + launch.choice->request.kernel + "("));
    }
    // The first sum reads the input, those between the layers the last product.
    EXPECT_EQ(n_launches, 8U);
    EXPECT_EQ(keys.size(), 2U) << target;
  }
}

TEST(FusePointwise, NothingIsComputedBeforeWhatItReads) {
  // The sum of the two cannot be where either is: a product of the one makes the other.
  const Graph between = fused(graph_of(R"(  %a: fp32[T, 128] = scale %x {alpha = 2.0}
  %p: fp32[T, 128] = linear %a, %w
  %b: fp32[T, 128] = silu_mul %a, %p
)",
                                       "%b"));
  EXPECT_EQ(count(between, Op::cluster), 0U);
  // Here the first can wait for the second,
  const Graph later = fused(graph_of(R"(  %a: fp32[T, 128] = scale %x {alpha = 2.0}
  %p: fp32[T, 128] = linear %x, %w
  %b: fp32[T, 128] = silu_mul %a, %p
)",
                                     "%b"));
  EXPECT_EQ(count(later, Op::cluster), 1U);
  EXPECT_EQ(later.nodes[0].op, Op::linear);
  // and here the second can come sooner.
  const Graph sooner = fused(graph_of(R"(  %a: fp32[T, 128] = scale %x {alpha = 2.0}
  %p: fp32[T, 128] = linear %a, %w
  %b: fp32[T, 128] = rms_norm %a, %g
)",
                                      "%b, %p"));
  EXPECT_EQ(count(sooner, Op::cluster), 1U);
  EXPECT_EQ(sooner.nodes[0].op, Op::cluster);
}

TEST(FusePointwise, NormAndRopeOfHeadsGoTogether) {
  const std::string text = R"(graph g {
  input %p: fp32[T, 768]
  input %positions: i32[T]
  weight %inv_freq: fp32[32]
  weight %g: fp16[64]
  %q0: fp32[T, 512] = slice %p {begin = 0, size = 512}
  %q1: fp32[T, 8, 64] = reshape %q0 {heads = 8}
  %q2: fp32[T, 8, 64] = rms_norm %q1, %g
  %q3: fp32[T, 8, 64] = rope %q2, %positions, %inv_freq
  %k0: fp32[T, 256] = slice %p {begin = 512, size = 256}
  %k1: fp32[T, 4, 64] = reshape %k0 {heads = 4}
  %k2: fp32[T, 4, 64] = rms_norm %k1, %g
  %k3: fp32[T, 4, 64] = rope %k2, %positions, %inv_freq
  return %q3, %k3
}
)";
  const Graph graph = fused(text);
  EXPECT_EQ(count(graph, Op::cluster), 2U);
  EXPECT_EQ(print(run_passes(decompose(graph))), print(graph));
  const auto launches = launches_on(graph, "cpu");
  ASSERT_EQ(launches.size(), 2U);
  EXPECT_EQ(launches[0].choice->key, launches[1].choice->key);
  const auto size = [&](std::size_t launch, const char* name) {
    return dim_text(launches[launch].size_of(name).value());
  };
  EXPECT_EQ(size(0, "n_rows"), "T*8");
  EXPECT_EQ(size(1, "n_rows"), "T*4");
  EXPECT_EQ(size(1, "group"), "4");
  EXPECT_EQ(size(1, "x_stride"), "768") << "tokens of a slice are as far apart as of the whole";
  // Turned twice: no kernel for both.
  auto twice = text;
  twice.replace(twice.find("rms_norm %q1, %g"), 16, "rope %q1, %positions, %inv_freq");
  EXPECT_EQ(count(fused(twice), Op::cluster), 1U);
}

TEST(FusePointwise, RowsOfOtherWidthsAndStatesStayApart) {
  const Graph widths = fused(graph_of(R"(  %a: fp32[T, 128] = scale %x {alpha = 2.0}
  %b: fp32[T, 64] = slice %a {begin = 0, size = 64}
  %c: fp32[T, 64] = scale %b {alpha = 3.0}
)",
                                      "%c"));
  EXPECT_EQ(count(widths, Op::cluster), 0U);
  const std::string table = R"(  state %s: fp32[9, 128]
  input %ids: i32[T]
  %a: fp32[T, 128] = gather_rows %s, %ids {scale = 1.0, dtype = fp32}
  %b: fp32[T, 128] = rms_norm %a, %g
)";
  EXPECT_EQ(count(fused(graph_of(table, "%b")), Op::cluster), 0U);
  auto constant = table;
  constant.replace(constant.find("state"), 5, "weight");
  EXPECT_EQ(count(fused(graph_of(constant, "%b")), Op::cluster), 1U);
}

TEST(FusePointwise, ALaunchTakesOnlySoManyArguments) {
  std::string inputs = "graph g {\n  input %x: fp32[T, 128]\n";
  std::string sums;
  for (int i = 0; i < 30; ++i) {
    inputs += fmt::format("  input %i{}: fp32[T, 128]\n", i);
    sums += fmt::format("  %s{}: fp32[T, 128] = add %{}, %i{}\n", i,
                        i == 0 ? "x" : fmt::format("s{}", i - 1), i);
  }
  const Graph graph = fused(inputs + sums + "  return %s29\n}\n");
  EXPECT_GE(count(graph, Op::cluster), 2U);
  EXPECT_LE(graph.nodes.size(), 4U);
  for (const auto& node : graph.nodes)
    EXPECT_TRUE(program::has_kernel(graph, node, kPrefill, tables().specs));
  for (const auto& launch : launches_on(graph, "cpu"))
    EXPECT_LE(launch.choice->request.args.size(), 25U);
}

// RoPE reads the other half of a row, which a row in parts has not.
TEST(FusePointwise, WhatNoKernelComputesIsTakenApart) {
  const std::string text = fmt::format(R"(graph g {{
  input %x: fp32[T, 2, {0}]
  input %positions: i32[T]
  weight %g: fp16[{0}]
  weight %inv_freq: fp32[{1}]
  %4: fp32[T, 2, {0}] = cluster %x, %g, %positions, %inv_freq {{body = "n = rms_norm x, g; r = rope n, positions, inv_freq; return r"}}
  return %4
}}
)",
                                       2 * kMaxReducedCols, kMaxReducedCols);
  const Graph graph = parse(text, "g");
  EXPECT_EQ(parse(print(graph), "printed"), graph);
  EXPECT_FALSE(program::has_kernel(graph, graph.nodes[0], kPrefill, tables().specs));
  const Graph legal = program::legalise(graph, kPrefill, tables().specs);
  EXPECT_EQ(count(legal, Op::cluster), 0U);
  EXPECT_EQ(legal.nodes.size(), 2U);
}

TEST(FusePointwise, ARowThatIsTooLongIsReadInParts) {
  const auto source_of = [](std::int64_t n_cols) {
    const auto graph = fused(fmt::format(R"(graph g {{
  input %x: fp32[T, {0}]
  weight %g: fp16[{0}]
  %2: fp32[T, {0}] = scale %x {{alpha = 2.0}}
  %3: fp32[T, {0}] = rms_norm %2, %g
  return %3
}}
)",
                                         n_cols));
    EXPECT_EQ(count(graph, Op::cluster), 1U);
    return launches_on(graph, "cuda:90").at(0).choice->request.generated->source;
  };
  constexpr const char* kLoop = "for start in range(0, n_cols, BLOCK):";
  EXPECT_THAT(source_of(kMaxReducedCols), testing::Not(testing::HasSubstr(kLoop)));
  EXPECT_THAT(source_of(kMaxReducedCols + 16), testing::HasSubstr(kLoop));
}

// A sum of four rows, computed again each of the three times that a layer norm goes over a long
// row.
TEST(FusePointwise, WhatMovesMoreThanItSavesIsLeftApart) {
  const auto graph_of_width = [](std::int64_t n_cols) {
    return parse(fmt::format(R"map(graph g {{
  input %a: fp32[T, {0}]
  input %b: fp32[T, {0}]
  input %c: fp32[T, {0}]
  input %d: fp32[T, {0}]
  weight %w: fp32[{0}]
  %s: fp32[T, {0}] = map %a, %b, %c, %d {{body = "(a, b, c, d) -> a + b + (c + d)"}}
  %n: fp32[T, {0}] = map %s, %w {{body = "(x, w) -> layer_norm(x, w, w, 1e-05)"}}
  return %n
}}
)map",
                             n_cols),
                 "g");
  };
  const auto reasons_of = [&](std::int64_t n_cols) {
    std::vector<std::string> reasons;
    run_passes(graph_of_width(n_cols), {.skip = {}, .observe = [&](const PassReport& report) {
                                          if (report.row.reasons != nullptr)
                                            reasons = report.row.reasons(report.before);
                                        }});
    return reasons;
  };
  EXPECT_EQ(count(run_passes(graph_of_width(4096)), Op::cluster), 1U);
  EXPECT_THAT(reasons_of(4096),
              testing::ElementsAre("map with map: 81920 bytes and 40960 flops a row instead of "
                                   "114688 and 40960, a launch less: one kernel"));
  EXPECT_EQ(count(run_passes(graph_of_width(32768)), Op::cluster), 0U);
  EXPECT_THAT(
      reasons_of(32768),
      testing::ElementsAre("map with map: 1703936 bytes and 983040 flops a row, which is read "
                           "3 times, instead of 1179648 and 786432, a launch less: left apart"));
}

TEST(FusePointwise, AMapAloneIsAKernel) {
  const Graph graph = parse(
      graph_of(
          R"map(  %y: fp16[T, 128], %z: fp16[T, 128] = map %x, %g {body = "(x, g) -> y = gelu_tanh(x) * g; return y, mean(y)", dtype = fp16}
)map",
          "%y, %z"),
      "g");
  EXPECT_EQ(parse(print(graph), "printed"), graph);
  EXPECT_EQ(run_passes(graph).nodes[0].op, Op::map);
  const auto launches = launches_on(graph, "cpu");
  ASSERT_EQ(launches.size(), 1U);
  std::vector<std::string> names;
  for (const auto& [param, id] : launches[0].pointers)
    names.push_back(param->name + " " + graph.value(id).name);
  EXPECT_THAT(names, testing::ElementsAre("y_ptr y", "mapped_ptr z", "x_ptr x", "g_ptr g"));
}

TEST(FusePointwise, AMapThatNoKernelComputesIsAnError) {
  const Graph graph = parse(R"(graph g {
  input %x: fp32[T, 2, 3, 64]
  %1: fp32[T, 2, 3, 64] = map %x {body = "(x) -> x + 1.0"}
  return %1
}
)",
                            "g");
  try {
    launches_on(graph, "cpu");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("%1: no kernel computes map"));
  }
}

TEST(FusePointwise, MapsGoIntoClusters) {
  const Graph graph = fused(graph_of(R"(  %a: fp32[T, 128] = scale %x {alpha = 2.0}
  %b: fp32[T, 128], %c: fp32[T, 128] = map %a, %g {body = "(a, for) -> a * for, -a"}
  %d: fp32[T, 128] = map %b, %c {body = "(x, mask) -> softcap(x, 30.0) + mask"}
  %e: fp32[T, 128] = rms_norm %d, %g
)",
                                     "%c, %e"));
  ASSERT_EQ(count(graph, Op::cluster), 1U);
  EXPECT_EQ(graph.nodes.size(), 1U);
  EXPECT_EQ(graph.nodes[0].text_attr(kBody),
            "scaled = scale x {alpha = 2.0}; "
            "mapped, mapped2 = map scaled, for2 {body = '(a, for) -> a * for, -a'}; "
            "mapped3 = map mapped, mapped2 {body = '(x, mask) -> softcap(x, 30.0) + mask'}; "
            "normed = rms_norm mapped3, for2; return mapped2, normed");
  EXPECT_EQ(print(run_passes(decompose(graph))), print(graph));
  EXPECT_EQ(parse(print(graph), "printed"), graph);
  EXPECT_EQ(launches_on(graph, "cpu").size(), 1U);
}

TEST(FusePointwise, AMapThatDoesNotFitIsAnErrorWithItsLine) {
  const auto map = [](const std::string& operands, const std::string& text,
                      const std::string& type = "fp32[T, 128]") {
    return error_of(
        graph_of("  %5: " + type + " = map " + operands + " {body = \"" + text + "\"}\n", "%5"));
  };
  EXPECT_EQ(map("%x, %g", "(x, g) -> x * g"), "no error");
  EXPECT_THAT(map("%x, %g", "(x) -> x"),
              testing::HasSubstr("g:5: map: its body has 1 operands, the node 2"));
  EXPECT_THAT(map("%x", "(x) -> x *"),
              testing::HasSubstr("g:5: map, body: expression \"(x) -> x *\", column 11: expected a "
                                 "name, a number or \"(\", got the end"));
  EXPECT_THAT(map("%x, %w", "(x, w) -> x * w"),
              testing::HasSubstr("map: operand operands (%w): expected rows [T, 128] or a vector "
                                 "[128], got fp16[128, 128]"));
  EXPECT_THAT(map("%g", "(g) -> g"), testing::HasSubstr("an operand must have more than one"));
  EXPECT_THAT(map("%x", "(x) -> x, x"), testing::HasSubstr("map: expected 2 results, got 1"));
  EXPECT_THAT(map("%x", "(x) -> x", "fp16[T, 128]"),
              testing::HasSubstr("%5 is declared fp16[T, 128], the operands make it fp32[T, 128]"));
  EXPECT_THAT(
      error_of(graph_of("  %5: i32[T, 128] = map %x {body = \"(x) -> x\", dtype = i32}\n", "%5")),
      testing::HasSubstr("map: attribute dtype: expected a floating-point type, got i32"));
  EXPECT_THAT(error_of(graph_of("  %5: fp32[T, 128] = map %x\n", "%5")),
              testing::HasSubstr("map: attribute body is missing"));
}

TEST(FusePointwise, ABodyThatMakesNoSenseIsAnErrorWithItsLine) {
  const auto body = [](const std::string& operands, const std::string& text) {
    return error_of(graph_of(
        "  %5: fp32[T, 128] = cluster " + operands + " {body = \"" + text + "\"}\n", "%5"));
  };
  EXPECT_EQ(body("%x", "s = scale a {alpha = 2.0}; return s"), "no error");
  EXPECT_THAT(body("%x, %w", "p = linear a, b; return p"),
              testing::AllOf(testing::StartsWith("g:5: "),
                             testing::HasSubstr("a cluster holds no \"linear\"")));
  EXPECT_THAT(body("%x", "s = add a, b; return s"), testing::HasSubstr("b is no operand"));
  EXPECT_THAT(body("%x, %g", "s = scale a; return s"), testing::HasSubstr("reads 1 of 2 operands"));
  EXPECT_THAT(body("%x, %w", "s = add a, b; return s"),
              testing::HasSubstr("add: operand y (%b): expected fp32[T, 128], got fp16[128, 128]"));
  EXPECT_THAT(body("%x", "s = scale a; return a"), testing::HasSubstr("a is not computed"));
  EXPECT_THAT(body("%x", "s = scale a; return s, s"), testing::HasSubstr("s is returned twice"));
  EXPECT_THAT(body("%x", "s = scale a; t = scale s; return s, t"),
              testing::HasSubstr("expected 2 results, got 1"));
  EXPECT_THAT(body("%x", ""), testing::HasSubstr("expected a name"));
  EXPECT_THAT(body("%x", "s = scale a"), testing::HasSubstr("expected \";\""));
  EXPECT_THAT(error_of(graph_of("  %5: fp32[T, 128] = cluster %x {body = 3}\n", "%5")),
              testing::HasSubstr("g:5: cluster: attribute body: expected a text in quotes"));
  EXPECT_THAT(error_of(graph_of("  %5: fp32[T, 128] = cluster %x {body = \"s = \n\"}\n", "%5")),
              testing::HasSubstr("a text without its closing quote"));
  EXPECT_THAT(error_of(graph_of("  %5: fp32[T, 8, 16] = reshape %x {heads = 8.5}\n", "%5")),
              testing::HasSubstr("g:5: reshape: attribute heads: expected an integer"));
}

}  // namespace
}  // namespace nereid::graph
