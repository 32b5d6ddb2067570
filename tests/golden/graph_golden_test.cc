// The graphs of every family as text, read once by eye: what a change to the builder does to a
// model shows here. NEREID_UPDATE_GOLDENS=1 writes the files anew.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/mapped_file.h"
#include "graph/ir.h"
#include "graph/passes/passes.h"
#include "model/architecture.h"
#include "model/config.h"
#include "program/lower.h"

namespace nereid::model {
namespace {

namespace fs = std::filesystem;

graph::Graph graph_of(const ModelConfig& config) {
  GraphOptions options;
  options.weight_dtype = [&](const std::string&) { return config.dtype; };
  options.n_blocks = 8;
  options.max_blocks_per_sequence = 8;
  return build_graph(config, options);
}

void expect_golden(const std::string& text, const std::string& name) {
  const fs::path golden =
      fs::path(NEREID_SOURCE_DIR) / "tests" / "golden" / "graphs" / (name + ".txt");
  if (std::getenv("NEREID_UPDATE_GOLDENS") != nullptr) write_text_file(golden, text);
  EXPECT_EQ(text, read_text_file(golden));
}

class GraphGolden : public testing::TestWithParam<const char*> {};

TEST_P(GraphGolden, IsTheSameText) {
  const auto config =
      ModelConfig::load(fs::path(NEREID_SOURCE_DIR) / "tests/fixtures" / GetParam());
  const graph::Graph graph = graph_of(config);
  graph::verify(graph);
  const std::string text = graph::print(graph);
  EXPECT_EQ(graph::parse(text, "printed"), graph);
  expect_golden(text, GetParam());
}

TEST_P(GraphGolden, IsFusedToTheSameText) {
  const auto config =
      ModelConfig::load(fs::path(NEREID_SOURCE_DIR) / "tests/fixtures" / GetParam());
  const program::Bounds decode{{.n_tokens = 2, .n_sequences = 2, .n_logits = 2}, true, "cpu"};
  const auto fused =
      program::legalise(graph::run_passes(graph_of(config)), decode, kernel::SpecTable::builtin());
  expect_golden(graph::print(fused), GetParam() + std::string(".decode"));
}

INSTANTIATE_TEST_SUITE_P(Families, GraphGolden,
                         testing::Values("gemma2", "gemma3", "granite3", "granite_code", "llama3",
                                         "llama31_rope", "mistral_swa", "olmo2", "phi3",
                                         "phi3_long", "qwen2", "qwen3"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST(GraphTails, EachHasItsOwnLastOperation) {
  const auto config =
      ModelConfig::load(fs::path(NEREID_SOURCE_DIR) / "tests" / "fixtures" / "llama3");
  GraphOptions options;
  options.weight_dtype = [&](const std::string&) { return config.dtype; };
  const auto last_op = [&](Tail tail) {
    options.tail = tail;
    const graph::Graph graph = build_graph(config, options);
    graph::verify(graph);
    EXPECT_EQ(graph::parse(graph::print(graph), "printed"), graph);
    return graph.nodes.back().op;
  };
  EXPECT_EQ(last_op(Tail::greedy), graph::Op::greedy);
  EXPECT_EQ(last_op(Tail::logprob), graph::Op::token_logprob);
  EXPECT_EQ(last_op(Tail::sample), graph::Op::sample);
  EXPECT_EQ(last_op(Tail::full), graph::Op::top_logprobs);
}

}  // namespace
}  // namespace nereid::model
