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
    {.n_tokens = 512, .n_sequences = 4, .n_decodes = 4, .n_logits = 4, .max_query_tokens = 512},
    false,
    "cpu"};
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
      graph.nodes, [](const Node& node) { return has_launch(node.row().op_class); }));
}

std::size_t count(const Graph& graph, Op op) {
  return static_cast<std::size_t>(std::ranges::count(graph.nodes, op, &Node::op));
}

class Families : public testing::TestWithParam<const char*> {
 protected:
  // Heads that are normalised together are not yet heads where RoPE's kernel would begin.
  bool fuses_rope() const { return config_.qk_norm != model::QkNorm::row; }

  std::int64_t n_layer_launches() const {
    switch (config_.norm_places) {
      case model::NormPlaces::before:
        return 5;
      case model::NormPlaces::around:
        return 7;  // norm and sum twice
      case model::NormPlaces::after:
        return 12;  // norm and sum twice; norm and RoPE of q and of k, and the write of the cache
    }
    return 0;
  }

  model::ModelConfig config_ = config_of(fs::path("tests/fixtures") / GetParam());
};

TEST_P(Families, FusingWhatWasTakenApartGivesTheSameGraph) {
  for (const auto tail :
       {model::Tail::greedy, model::Tail::sample, model::Tail::full, model::Tail::logprob}) {
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
    EXPECT_EQ(count(apart, node.op), count(original, node.op)) << node.row().name;
}

TEST_P(Families, DecodingTakesFewLaunchesALayer) {
  const Graph decode = legalise(run_passes(built(config_)), kDecodeOne);
  EXPECT_LE(n_launches(decode),
            static_cast<std::size_t>(n_layer_launches() * config_.n_layers + 5));
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

// Prompts first, then what decodes, into one result that the rest of the layer reads.
TEST_P(Families, AttentionBesidePromptsIsTwoLaunchesIntoOneResult) {
  const auto n_layers = static_cast<std::size_t>(config_.n_layers);
  for (const bool is_fused : {true, false}) {
    SCOPED_TRACE(is_fused ? "fused" : "as it was built");
    const Graph split =
        is_fused ? legalise(run_passes(built(config_)), kPrefill) : split_attention(built(config_));
    verify(split);
    EXPECT_EQ(parse(print(split), "printed"), split);
    EXPECT_EQ(print(split_attention(split)), print(split)) << "split once";
    const bool fuses = is_fused && fuses_rope();
    EXPECT_EQ(count(split, fuses ? Op::rope_kv_write : Op::kv_write), n_layers);
    EXPECT_EQ(count(split, Op::rope_attention), fuses ? n_layers : 0);
    const Node* prompts = nullptr;
    std::size_t n_pairs = 0;
    for (const auto& node : split.nodes) {
      if (node.row().op_class != OpClass::attention) continue;
      if (prompts == nullptr) {
        EXPECT_EQ(node.text_attr("rows"), "prompt");
        EXPECT_FALSE(node.has("into"));
        prompts = &node;
        continue;
      }
      ++n_pairs;
      EXPECT_EQ(node.text_attr("rows"), "decode");
      EXPECT_EQ(node.operand("into"), prompts->result("out"));
      for (const char* same : {"k_cache", "v_cache", "block_tables", "context_lens"})
        EXPECT_EQ(node.operand(same), prompts->operand(same)) << same;
      for (const char* same : {"scale", "softcap", "window"})
        EXPECT_EQ(node.attr(same), prompts->attr(same)) << same;
      const passes::Uses uses(split);
      EXPECT_EQ(uses.n_readers(prompts->result("out")), 1U);
      EXPECT_EQ(uses.n_readers(node.result("out")), 1U);
      prompts = nullptr;
    }
    EXPECT_EQ(n_pairs, n_layers);
    // Taken apart, the same two remain.
    const Graph apart = decompose(split);
    verify(apart);
    EXPECT_EQ(count(apart, Op::attention), 2 * n_layers);
    EXPECT_EQ(std::ranges::count_if(
                  apart.nodes,
                  [](const Node& node) { return node.op == Op::attention && node.has("into"); }),
              config_.n_layers);
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
                         testing::Values("gemma2", "gemma3", "granite3", "granite_code", "llama3",
                                         "llama31_rope", "mistral_swa", "olmo2", "phi3", "qwen2",
                                         "qwen3"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST(Passes, LargeModelsDecodeInFiveLaunchesALayerAndFiveMore) {
  for (const char* name : {"configs/llama3-8b", "configs/granite-8b"}) {
    const auto config = config_of(name);
    const Graph decode = legalise(run_passes(built(config)), kDecodeOne);
    EXPECT_LE(n_launches(decode), static_cast<std::size_t>(5 * config.n_layers + 5)) << name;
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
  EXPECT_THAT(text, testing::HasSubstr("linear %x, %packed.a, norm = %g {epilogue = "
                                       "\"(gate, up) -> silu(gate) * up\"}"));
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
  static_cast<void>(run_passes(built(config_of("tests/fixtures/llama3")),
                               {.skip = {"fuse_norm"}, .observe = [&](const PassReport& report) {
                                  seen.emplace_back(report.row.name);
                                }}));
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
