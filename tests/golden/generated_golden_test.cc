// Generated kernels as text, read once by eye: what a change to the writer does to a kernel shows
// here. NEREID_UPDATE_GOLDENS=1 writes the files anew.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/mapped_file.h"
#include "graph/cluster.h"
#include "graph/ir.h"
#include "graph/triton_source.h"

namespace nereid::graph {
namespace {

namespace fs = std::filesystem;

void expect_golden(const std::string& text, const std::string& name) {
  const fs::path golden =
      fs::path(NEREID_SOURCE_DIR) / "tests" / "golden" / "generated" / (name + ".txt");
  if (std::getenv("NEREID_UPDATE_GOLDENS") != nullptr) write_text_file(golden, text);
  EXPECT_EQ(text, read_text_file(golden));
}

std::string source_of(const std::string& cluster) {
  const Graph graph = parse(R"(graph g {
  input %ids: i32[T]
  input %x: fp16[T, 4096]
  input %y: fp16[T, 4096]
  weight %table: fp16[128256, 4096]
  weight %g: fp16[4096]
  input %q: fp16[T, 32, 128]
  input %positions: i32[T]
  weight %norm: fp16[128]
  weight %inv_freq: fp32[64]
)" + cluster + "}\n",
                            "g");
  return generate_kernel(cluster_body(graph, graph.nodes[0]))->source;
}

TEST(GeneratedGolden, ResidualAndNorm) {
  expect_golden(source_of(R"(
  %5: fp16[T, 4096], %6: fp16[T, 4096] = cluster %x, %y, %g {body =
    "added = add x, y {alpha = 0.22}; normed = rms_norm added, weight {eps = 1e-05}; return added, normed"}
  return %5, %6
)"),
                "residual_norm");
}

TEST(GeneratedGolden, EmbeddingAndNorm) {
  expect_golden(source_of(R"(
  %5: fp32[T, 4096], %6: fp32[T, 4096] = cluster %table, %ids, %g {body =
    "gathered = gather_rows table, ids {scale = 12.0, dtype = fp32}; normed = rms_norm gathered, weight; return gathered, normed"}
  return %5, %6
)"),
                "embedding_norm");
}

// No reduction: a row may be cut into parts.
TEST(GeneratedGolden, GateAndScale) {
  expect_golden(source_of(R"(
  %5: fp16[T, 4096] = cluster %x, %y {body =
    "gated = silu_mul gate, up; scaled = scale gated {alpha = 0.5}; return scaled"}
  return %5
)"),
                "gate_scale");
}

// Heads are rows; RoPE computes what each column turns with a second time.
TEST(GeneratedGolden, HeadNormAndRope) {
  expect_golden(source_of(R"(
  %9: fp16[T, 32, 128] = cluster %q, %norm, %positions, %inv_freq {body =
    "normed = rms_norm x, weight {eps = 1e-06}; roped = rope normed, positions, inv_freq; return roped"}
  return %9
)"),
                "head_norm_rope");
}

// What values are called in a body, and in the graph, is not what a kernel is.
TEST(GeneratedGolden, NamesDoNotMatter) {
  const auto source = [](const char* body) {
    return source_of(fmt::format("%5: fp16[T, 4096] = cluster %x, %y {{body = \"{}\"}}\n", body));
  };
  EXPECT_EQ(source("for = silu_mul a, b; s = scale for {alpha = 0.5}; return s"),
            source("gated = silu_mul gate, up; scaled = scale gated {alpha = 0.5}; return scaled"));
  EXPECT_NE(source("g = silu_mul a, b; s = scale g {alpha = 0.5}; return s"),
            source("g = silu_mul a, b; s = scale g {alpha = 0.25}; return s"));
}

}  // namespace
}  // namespace nereid::graph
