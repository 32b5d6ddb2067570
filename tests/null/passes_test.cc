// Passes: what each family becomes, that taking apart and fusing are inverse, and that leaving a
// pass out still gives a graph that runs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "graph/passes/passes.h"
#include "graph/passes/rewrite.h"
#include "model/architecture.h"
#include "model/config.h"
#include "program/lower.h"

namespace nereid::graph {
namespace {

namespace fs = std::filesystem;

using program::Bounds;

const Bounds kDecodeOne{{.n_tokens = 1, .n_sequences = 4, .n_logits = 1}, true, "cpu"};
const Bounds kPrefill{
    {.n_tokens = 512, .n_sequences = 4, .n_logits = 4, .max_query_tokens = 512}, false, "cpu"};
const Bounds kWideDecode{{.n_tokens = 64, .n_sequences = 64, .n_logits = 64}, true, "cpu"};

const program::KernelTables& tables() {
  static const auto tables = program::KernelTables::builtin();
  return tables;
}

Graph legalise(const Graph& graph, const Bounds& steps) {
  return program::legalise(graph, steps, tables().specs);
}

model::ModelConfig config_of(const fs::path& dir) {
  return model::ModelConfig::load(fs::path(NEREID_SOURCE_DIR) / dir);
}

Graph built(const model::ModelConfig& config, model::Tail tail = model::Tail::greedy) {
  model::GraphOptions options;
  options.weight_dtype = [&](const std::string&) { return config.dtype; };
  options.n_blocks = 8;
  options.max_blocks_per_sequence = 8;
  options.tail = tail;
  return model::build_graph(config, options);
}

std::size_t n_launches(const Graph& graph) {
  return static_cast<std::size_t>(std::ranges::count_if(
      graph.nodes, [](const Node& node) { return has_launch(op_row(node.op).op_class); }));
}

std::size_t count(const Graph& graph, Op op) {
  return static_cast<std::size_t>(std::ranges::count(graph.nodes, op, &Node::op));
}

class Families : public testing::TestWithParam<const char*> {
 protected:
  model::ModelConfig config_ = config_of(fs::path("tests/fixtures") / GetParam());
};

TEST_P(Families, FusingWhatWasTakenApartGivesTheSameGraph) {
  for (const auto tail : {model::Tail::greedy, model::Tail::sample, model::Tail::sample_penalty,
                          model::Tail::logprob}) {
    const Graph fused = run_passes(built(config_, tail));
    EXPECT_EQ(print(run_passes(decompose(fused))), print(fused));
    EXPECT_EQ(print(run_passes(fused)), print(fused)) << "passes are done after one run";
    EXPECT_EQ(parse(print(fused), "printed"), fused);
  }
}

TEST_P(Families, TakenApartThereIsNoFusedOpLeft) {
  const Graph apart = decompose(run_passes(built(config_)));
  const Graph original = passes::canonical(built(config_));
  EXPECT_EQ(apart.nodes.size(), original.nodes.size());
  for (const auto& node : original.nodes)
    EXPECT_EQ(count(apart, node.op), count(original, node.op)) << op_row(node.op).name;
}

TEST_P(Families, DecodingTakesFiveLaunchesALayer) {
  const Graph decode = legalise(run_passes(built(config_)), kDecodeOne);
  const int n_scales = config_.logits_scaling != 1.0 ? 1 : 0;
  EXPECT_LE(n_launches(decode), static_cast<std::size_t>(5 * config_.n_layers + 4 + n_scales));
}

TEST_P(Families, StepsOfEveryClassHaveKernels) {
  const Graph fused = run_passes(built(config_));
  for (auto steps : {kDecodeOne, kPrefill, kWideDecode})
    for (const char* target : {"cpu", "cuda:80", "cuda:90", "hip:gfx942"}) {
      steps.target = target;
      const Graph legal = legalise(fused, steps);
      for (const auto& node : legal.nodes)
        EXPECT_TRUE(program::has_kernel(legal, node, steps, tables().specs));
      EXPECT_EQ(program::lower(legal, steps, tables()).size(), n_launches(legal));
    }
}

TEST_P(Families, AnyPassCanBeLeftOut) {
  for (const auto& row : pass_table()) {
    const Graph graph =
        run_passes(built(config_), {.skip = {std::string(row.name)}, .observe = {}});
    for (const auto& steps : {kDecodeOne, kPrefill}) {
      const Graph legal = legalise(graph, steps);
      EXPECT_FALSE(program::lower(legal, steps, tables()).empty()) << row.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Families,
                         testing::Values("granite3", "granite_code", "llama3", "llama31_rope",
                                         "mistral_swa", "qwen2", "qwen3"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST(Passes, LargeModelsDecodeInFiveLaunchesALayerAndFourMore) {
  for (const char* name : {"configs/llama3-8b", "configs/granite-8b"}) {
    const auto config = config_of(name);
    const Graph decode = legalise(run_passes(built(config)), kDecodeOne);
    EXPECT_LE(n_launches(decode), static_cast<std::size_t>(5 * config.n_layers + 4)) << name;
    EXPECT_EQ(count(decode, Op::rope_attention), static_cast<std::size_t>(config.n_layers)) << name;
  }
}

TEST(Passes, GraphsThatMeanTheSameBecomeTheSameText) {
  constexpr const char* kOne = R"(graph g {
  input %x: fp32[T, 128]
  weight %g: fp16[128]
  weight %a: fp16[256, 128]
  weight %b: fp16[256, 128]
  %4: fp32[T, 128] = rms_norm %x, %g {eps = 1e-05}
  %5: fp32[T, 256] = linear %4, %a
  %6: fp32[T, 256] = linear %4, %b
  %7: fp32[T, 256] = silu_mul %5, %6
  return %7
}
)";
  // Declared in another order, the norm twice, and something that nobody reads.
  constexpr const char* kOther = R"(graph g {
  weight %b: fp16[256, 128]
  weight %g: fp16[128]
  input %x: fp32[T, 128]
  %1: fp32[T, 128] = rms_norm %x, %g {eps = 1e-05}
  %2: fp32[T, 256] = linear %1, %b
  %3: fp32[T, 128] = rms_norm %x, %g {eps = 1e-05}
  weight %a: fp16[256, 128]
  %5: fp32[T, 256] = linear %3, %a
  %6: fp32[T, 256] = linear %1, %b
  %7: fp32[T, 256] = silu_mul %5, %6
  return %7
}
)";
  const std::string text = print(run_passes(parse(kOne, "one")));
  EXPECT_THAT(text, testing::HasSubstr("linear %x, %packed.a, norm = %g {epilogue = swiglu}"));
  EXPECT_EQ(print(run_passes(parse(kOther, "other"))), text);
}

TEST(Passes, WhatOthersReadTooIsNotFused) {
  const Graph graph = parse(R"(graph g {
  input %x: fp32[T, 128]
  weight %g: fp16[128]
  weight %a: fp16[128, 128]
  %n: fp32[T, 128] = rms_norm %x, %g {eps = 1e-05}
  %p: fp32[T, 128] = linear %n, %a
  %y: fp32[T, 128] = add %n, %p {alpha = 1.0}
  return %y, %p
}
)",
                            "g");
  const Graph fused = run_passes(graph);
  EXPECT_EQ(count(fused, Op::rms_norm), 1U);
  EXPECT_EQ(count(fused, Op::linear), 1U);
  EXPECT_EQ(count(fused, Op::add), 1U);
}

TEST(Passes, ObserveSeesEachAndAnUnknownNameIsAnError) {
  std::vector<std::string> seen;
  static_cast<void>(run_passes(
      built(config_of("tests/fixtures/llama3")),
      {.skip = {"fuse_norm"},
       .observe = [&](const PassRow& row, const Graph&, double) { seen.emplace_back(row.name); }}));
  EXPECT_EQ(seen.size(), pass_table().size() - 1);
  EXPECT_THAT(seen, testing::Not(testing::Contains("fuse_norm")));
  try {
    static_cast<void>(run_passes(Graph{}, {.skip = {"fuse_nothing"}, .observe = {}}));
    FAIL() << "no Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("there is no pass \"fuse_nothing\""));
    EXPECT_THAT(error.what(), testing::HasSubstr("pack_weights"));
  }
}

}  // namespace
}  // namespace nereid::graph
