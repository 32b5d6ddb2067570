// The graph IR: shape functions, verification, text, memory plan. Graphs are written as text.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/error.h"
#include "graph/ir.h"
#include "graph/passes/passes.h"
#include "graph/passes/rewrite.h"
#include "program/memory.h"

namespace nereid::graph {
namespace {

constexpr const char* kSmall = R"(graph small {
  input %ids: i32[T]
  input %rows: i32[L]
  weight %embed: fp16[512, 128]
  weight %w: fp16[256, 128]
  weight %b: fp16[256]
  %5: fp32[T, 128] = gather_rows %embed, %ids {scale = 12.0, dtype = fp32}
  weight %norm: fp16[128]
  %7: fp32[T, 128] = rms_norm %5, %norm {eps = 1e-06}
  %8: fp32[T, 256] = linear %7, %w, bias = %b
  %9: fp32[T, 4, 64] = reshape %8 {heads = 4}
  %10: fp32[T, 256] = reshape %9
  %11: fp32[T, 256] = silu_mul %10, %8
  %12: fp32[L, 256] = gather_rows %11, %rows
  state %last_ids: i32[64]
  %out: i32[64] = greedy %12, %last_ids
  return %12, %out
}
)";

std::string error_of(const std::string& text) {
  try {
    parse(text, "g");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(GraphText, RoundTrips) {
  const Graph graph = parse(kSmall, "small");
  verify(graph);
  EXPECT_EQ(print(graph), kSmall);
  EXPECT_EQ(parse(print(graph), "again"), graph);
}

TEST(GraphText, ErrorsNameTheLineAndTheCause) {
  using testing::HasSubstr;
  EXPECT_THAT(error_of(replaced(kSmall, "rms_norm", "rms_nrm")),
              HasSubstr("g:9: there is no op \"rms_nrm\""));
  EXPECT_THAT(error_of(replaced(kSmall, "linear %7, %w, bias = %b", "linear %7, %b, bias = %w")),
              HasSubstr("g:10: linear: operand weight (%b): expected any[M, W], got fp16[256]"));
  EXPECT_THAT(error_of(replaced(kSmall, "reshape %9", "reshape %99")),
              HasSubstr("g:12: %99 is used before it is declared"));
  EXPECT_THAT(error_of(replaced(kSmall, "gather_rows %embed", "gather_rows %5")),
              HasSubstr("%5 is used before it is declared"));
  EXPECT_THAT(error_of(replaced(kSmall, "%8: fp32[T, 256]", "%8: fp32[T, 255]")),
              HasSubstr("%8 is declared fp32[T, 255], the operands make it fp32[T, 256]"));
  EXPECT_THAT(error_of(replaced(kSmall, "input %ids: i32[T]", "input %ids: i32[T")),
              HasSubstr("g:3: expected \",\""));
  EXPECT_THAT(error_of(replaced(kSmall, "weight %b", "weight %w")),
              HasSubstr("%w is declared twice"));
  EXPECT_THAT(error_of(replaced(kSmall, "silu_mul %10, %8", "silu_mul %10")),
              HasSubstr("g:13: silu_mul: operand up is missing; expected the operands gate, up"));
  EXPECT_THAT(error_of(replaced(kSmall, "heads = 4", "heads = 3")),
              HasSubstr("columns that are a multiple of 3"));
  EXPECT_THAT(error_of(std::string(kSmall).substr(0, 200)), testing::StartsWith("g:"));
}

// A node whose meaning is a text of its own, and operations that passes put together.
constexpr const char* kClusters = R"(graph clusters {
  input %x: fp32[T, 64]
  input %y: fp32[T, 64]
  weight %g: fp16[64]
  weight %w: fp16[64, 64]
  %4: fp32[T, 64], %5: fp32[T, 64] = cluster %x, %y, %g {body = "added = add x, y {alpha = 0.22}; normed = rms_norm added, weight; return added, normed"}
  %6: fp32[T, 64] = linear %5, %w, norm = %g, residual = %x {eps = 0.5, alpha = 0.22}
  %7: fp32[T, 64] = silu_mul %6, %4
  %8: fp32[T, 64] = scale %7 {alpha = 2.0}
  %9: fp32[T, 8, 8] = reshape %8 {heads = 8}
  return %9, %7
}
)";

constexpr const char* kAttention = R"(graph attention {
  input %qkv: fp32[T, 768]
  input %positions: i32[T]
  weight %inv_freq: fp32[32]
  input %slots: i32[T]
  state %k: fp16[8, 2, 64, 64]
  state %v: fp16[8, 2, 64, 64]
  input %tables: i32[S, 8]
  input %starts: i32[S+1]
  input %lens: i32[S]
  weight %g: fp16[64]
  %10: fp32[T, 8, 64], %11: fp16[8, 2, 64, 64], %12: fp16[8, 2, 64, 64] = rope_kv_write %qkv, %positions, %inv_freq, %slots, %k, %v, q_norm = %g, k_norm = %g {heads = 8}
  %13: fp32[T, 8, 64] = attention %10, %11, %12, %tables, %starts, %lens {scale = 0.125, window = 7}
  %14: fp32[T, 512] = reshape %13
  return %14
}
)";

// As a step of prompts and decoding sequences runs it.
constexpr const char* kSplit = R"(graph split {
  input %qkv: fp32[T, 768]
  input %positions: i32[T]
  weight %inv_freq: fp32[32]
  input %slots: i32[T]
  state %k: fp16[8, 2, 64, 64]
  state %v: fp16[8, 2, 64, 64]
  %6: fp32[T, 8, 64], %7: fp16[8, 2, 64, 64], %8: fp16[8, 2, 64, 64] = rope_kv_write %qkv, %positions, %inv_freq, %slots, %k, %v {heads = 8}
  input %tables: i32[S, 8]
  input %starts: i32[S+1]
  input %lens: i32[S]
  %12: fp32[T, 8, 64] = attention %6, %7, %8, %tables, %starts, %lens {scale = 0.125, rows = prompt}
  %13: fp32[T, 8, 64], %14: fp16[8, 2, 64, 64], %15: fp16[8, 2, 64, 64] = rope_attention %qkv, %positions, %inv_freq, %slots, %7, %8, %tables, %starts, %lens, into = %12 {heads = 8, scale = 0.125, rows = decode}
  %16: fp32[T, 8, 64] = attention %6, %14, %15, %tables, %starts, %lens, into = %13 {scale = 0.125, rows = prompt}
  %17: fp32[T, 512] = reshape %16
  return %17
}
)";

TEST(GraphText, RowsOfSomeSequences) {
  const Graph graph = parse(kSplit, "split");
  EXPECT_EQ(print(graph), kSplit);
  // One place for all that is written in place.
  for (const char* name : {"13", "16", "17"})
    EXPECT_EQ(program::storage_of(graph, graph.find(name)), graph.find("12"));
  EXPECT_EQ(program::storage_of(graph, graph.find("12")), graph.find("12"));
  // What writes in place is not computed once for two; and what others fill stays.
  EXPECT_EQ(print(passes::canonical(graph)), kSplit);
  EXPECT_EQ(print(run_passes(graph)), kSplit);
  EXPECT_THAT(error_of(replaced(kSplit, ", rows = decode", "")),
              testing::HasSubstr("rope_attention: operand into (%12): expected none beside rows"));
  EXPECT_THAT(error_of(replaced(kSplit, "into = %12", "into = %qkv")),
              testing::HasSubstr("operand into (%qkv): expected =qkv[T, 8, 64], got"));
  EXPECT_THAT(error_of(replaced(kSplit, "rows = decode", "rows = some")),
              testing::HasSubstr("expected all, decode or prompt, got \"some\""));
}

class GraphFuzz : public testing::TestWithParam<const char*> {};

// What `nereid inspect graph` does with it.
TEST_P(GraphFuzz, AnyTextIsAGraphOrAnError) {
  std::mt19937 random(1);
  const std::string source = GetParam();
  int n_errors = 0;
  for (int run = 0; run < 4000; ++run) {
    std::string text = source;
    for (int edit = 0; edit < 1 + run % 3; ++edit) {
      const auto at = random() % text.size();
      if (random() % 2 == 0) {
        text[at] = static_cast<char>(random() % 256);
      } else if (random() % 2 == 0) {
        text.erase(at, random() % 20);
      } else {
        text.insert(at, source.substr(random() % source.size(), random() % 20));
      }
      if (text.empty()) text = "g";
    }
    try {
      const Graph graph = parse(text, "fuzz");
      verify(graph);
      EXPECT_EQ(print(parse(print(graph), "again")), print(graph));
      const Graph fused = run_passes(graph);
      EXPECT_EQ(print(parse(print(fused), "fused")), print(fused));
      verify(decompose(fused));
    } catch (const Error&) {
      ++n_errors;
    }
  }
  EXPECT_GT(n_errors, 1000);
  EXPECT_LT(n_errors, 3990);
}

INSTANTIATE_TEST_SUITE_P(Sources, GraphFuzz, testing::Values(kSmall, kClusters, kAttention, kSplit),
                         [](const auto& instance) { return parse(instance.param, "g").name; });

TEST(GraphVerify, RejectsWhatTheBuilderWouldNotMake) {
  Graph graph = parse(kSmall, "small");
  std::swap(graph.nodes[0], graph.nodes[1]);
  EXPECT_THROW(verify(graph), Error);
  graph = parse(kSmall, "small");
  graph.values[static_cast<std::size_t>(graph.find("8"))].dtype = DType::fp16;
  EXPECT_THROW(verify(graph), Error);
  graph = parse(kSmall, "small");
  graph.outputs = {77};
  EXPECT_THROW(verify(graph), Error);
}

// Two values that live at the same time never share a byte; the independent check of the planner.
void expect_no_overlap(const Graph& graph, const Sizes& sizes) {
  const program::Memory plan = program::plan_memory(graph, sizes);
  std::vector<int> last(graph.values.size(), -1);
  std::vector<int> first(graph.values.size(), 1 << 30);
  const auto touch = [&](ValueId id, int at) {
    const auto root = static_cast<std::size_t>(program::storage_of(graph, id));
    first[root] = std::min(first[root], at);
    last[root] = std::max(last[root], at);
  };
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    for (const auto id : graph.nodes[static_cast<std::size_t>(i)].reads()) touch(id, i);
    for (const auto id : graph.nodes[static_cast<std::size_t>(i)].outputs) touch(id, i);
  }
  for (const auto id : graph.outputs) touch(id, 1 << 20);
  for (std::size_t a = 0; a < graph.values.size(); ++a)
    for (std::size_t b = a + 1; b < graph.values.size(); ++b) {
      if (plan.offsets[a] == program::Memory::kNotInArena ||
          plan.offsets[b] == program::Memory::kNotInArena)
        continue;
      const auto root_a = program::storage_of(graph, static_cast<ValueId>(a));
      const auto root_b = program::storage_of(graph, static_cast<ValueId>(b));
      if (root_a == root_b) continue;
      const auto ra = static_cast<std::size_t>(root_a), rb = static_cast<std::size_t>(root_b);
      if (last[ra] < first[rb] || last[rb] < first[ra]) continue;
      const auto end_a = plan.offsets[a] + value_bytes(graph.values[a], sizes);
      const auto end_b = plan.offsets[b] + value_bytes(graph.values[b], sizes);
      EXPECT_TRUE(end_a <= plan.offsets[b] || end_b <= plan.offsets[a])
          << graph.values[a].name << " and " << graph.values[b].name;
    }
  EXPECT_LE(plan.arena_bytes, plan.unshared_bytes);
}

TEST(MemoryPlan, ReusesBytesOnlyOfTheDead) {
  const Graph graph = parse(kSmall, "small");
  expect_no_overlap(graph, {.n_tokens = 7, .n_sequences = 2, .n_logits = 2, .max_query_tokens = 4});
  const program::Memory plan = program::plan_memory(
      graph, {.n_tokens = 512, .n_sequences = 4, .n_logits = 4, .max_query_tokens = 512});
  // %5 is dead once %7 is made: the peak is below the sum.
  EXPECT_LT(plan.arena_bytes, plan.unshared_bytes);
  EXPECT_EQ(plan.offsets[static_cast<std::size_t>(graph.find("9"))],
            plan.offsets[static_cast<std::size_t>(graph.find("8"))]);
  EXPECT_EQ(plan.offsets[static_cast<std::size_t>(graph.find("embed"))],
            program::Memory::kNotInArena);
}

TEST(MemoryPlan, RandomChains) {
  std::mt19937 random(7);
  for (int run = 0; run < 50; ++run) {
    Graph graph;
    graph.name = "chain";
    std::vector<ValueId> live{
        graph.add_value(ValueKind::input, "x", DType::fp32, {Symbol::n_tokens, 64})};
    live.push_back(graph.add(Op::scale, {live[0]}));
    for (int i = 0; i < 30; ++i) {
      const auto pick = [&] { return live[random() % live.size()]; };
      live.push_back(random() % 2 == 0 ? graph.add(Op::add, {pick(), pick()})
                                       : graph.add(Op::scale, {pick()}));
    }
    graph.outputs = {live.back()};
    verify(graph);
    expect_no_overlap(graph, {.n_tokens = static_cast<std::int64_t>(1 + random() % 40)});
  }
}

}  // namespace
}  // namespace nereid::graph
