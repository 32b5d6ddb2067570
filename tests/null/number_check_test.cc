#include "program/number_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "device/registry.h"

namespace nereid::program {
namespace {

std::span<const std::byte> bytes_of(const auto& values) { return std::as_bytes(std::span(values)); }

TEST(CountNotFinite, Fp32AsTheProcessorSays) {
  std::mt19937 random(1);
  std::vector<float> values(5000);
  std::size_t n_odd = 0;
  for (auto& value : values) {
    // All bit patterns, a NaN or infinity one time in about four.
    std::uint32_t bits = random();
    if (random() % 4 == 0) bits |= 0x7F800000U;
    std::memcpy(&value, &bits, sizeof value);
    n_odd += std::isfinite(value) ? 0 : 1;
  }
  EXPECT_GT(n_odd, 500U);
  EXPECT_EQ(count_not_finite(bytes_of(values), DType::fp32), n_odd);
}

TEST(CountNotFinite, SixteenBits) {
  // Infinity, NaN, the largest number, the smallest, zero, minus infinity.
  const std::vector<std::uint16_t> fp16{0x7C00, 0x7E01, 0x7BFF, 0x0001, 0x8000, 0xFC00};
  EXPECT_EQ(count_not_finite(bytes_of(fp16), DType::fp16), 3U);
  const std::vector<std::uint16_t> bf16{0x7F80, 0x7FC1, 0x7F7F, 0x0001, 0x8000, 0xFF80};
  EXPECT_EQ(count_not_finite(bytes_of(bf16), DType::bf16), 3U);
}

TEST(CountNotFinite, IntegersAreAllNumbers) {
  const std::vector<std::int32_t> ids{-1, 0x7F800000, 0x7FFFFFFF};
  EXPECT_EQ(count_not_finite(bytes_of(ids), DType::i32), 0U);
}

// Two layers whose values lie in vectors; the address of a value is that of its vector.
class NumberCheckTest : public ::testing::Test {
 protected:
  NumberCheckTest() : device_(device::open_device({"cpu", 1})) {
    using enum graph::Op;
    const auto add_weight = [&](const char* name, std::vector<graph::Dim> shape) {
      return graph_.add_value(graph::ValueKind::weight, name, DType::fp32, std::move(shape));
    };
    x_ = graph_.add_value(graph::ValueKind::input, "x", DType::fp32, {graph::Symbol::n_tokens, 4});
    weight_ = add_weight("model.layers.3.mlp.down_proj.weight", {4, 4});
    head_ = add_weight("lm_head.weight", {8, 4});
    y_ = graph_.add(linear, {x_, weight_});
    sum_ = graph_.add(add, {y_, x_});
    logits_ = graph_.add(linear, {sum_, head_}, {}, "logits");
    graph_.outputs = {logits_};
    for (const auto& value : graph_.values) {
      (void)value;
      memory_.emplace_back(64, 1.0F);
    }
  }

  std::string after(std::size_t node) {
    std::vector<device::Address> addresses;
    for (auto& value : memory_)
      addresses.push_back(reinterpret_cast<device::Address>(value.data()));
    return NumberCheck(*device_, graph_, {.n_tokens = 2, .max_query_tokens = 2}, addresses)
        .odd_results(node);
  }
  float& element(graph::ValueId id, std::size_t i) { return memory_[std::size_t(id)][i]; }

  static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  std::unique_ptr<device::Device> device_;
  graph::Graph graph_;
  std::vector<std::vector<float>> memory_;
  graph::ValueId x_, weight_, head_, y_, sum_, logits_;
};

TEST_F(NumberCheckTest, FiniteResultsAreNotWorthAWord) {
  for (std::size_t node = 0; node < 3; ++node) EXPECT_EQ(after(node), "");
}

TEST_F(NumberCheckTest, NamesLayerOperationAndWeights) {
  element(y_, 5) = kNan;
  element(y_, 8) = kNan;  // of a third token, which the step does not have
  element(weight_, 15) = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(
      after(0),
      "layer 3, linear %3 [T, 4] of model.layers.3.mlp.down_proj.weight: 1 of 8 numbers; 1 of "
      "model.layers.3.mlp.down_proj.weight's are not finite");
}

TEST_F(NumberCheckTest, WithoutWeightsTheLayerIsTheLastOnes) {
  element(sum_, 0) = kNan;
  EXPECT_EQ(after(1), "layer 3, add %4 [T, 4]: 1 of 8 numbers");
}

TEST_F(NumberCheckTest, TheHeadIsInNoLayer) {
  element(logits_, 0) = kNan;
  EXPECT_EQ(after(2), "linear %logits [T, 8] of lm_head.weight: 1 of 16 numbers");
}

// Rows of sequences that decode hold what the next launch is to fill.
TEST(NumberCheck, OfPromptsTheRowsOfPrompts) {
  const auto device = device::open_device({"cpu", 1});
  auto graph = graph::parse(R"(graph g {
  input %q: fp32[T, 1, 4]
  state %k: fp32[8, 1, 16, 4]
  state %v: fp32[8, 1, 16, 4]
  input %tables: i32[S, 8]
  input %starts: i32[S+1]
  input %lens: i32[S]
  %prompts: fp32[T, 1, 4] = attention %q, %k, %v, %tables, %starts, %lens {rows = prompt}
  %all: fp32[T, 1, 4] = attention %q, %k, %v, %tables, %starts, %lens, into = %prompts {rows = decode}
  return %all
})",
                            "test");
  std::vector<float> rows(5 * 4, 1.0F);
  std::vector<device::Address> addresses(graph.values.size());
  for (const char* name : {"prompts", "all"})
    addresses[static_cast<std::size_t>(graph.find(name))] =
        reinterpret_cast<device::Address>(rows.data());
  const NumberCheck check(*device, graph, {.n_tokens = 5, .n_sequences = 3, .n_decodes = 2},
                          addresses);
  rows[2 * 4 - 1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(check.odd_results(0), "");
  EXPECT_EQ(check.odd_results(1), "attention %all [T, 1, 4]: 1 of 20 numbers");
  rows[2 * 4] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(check.odd_results(0), "attention %prompts [T, 1, 4]: 1 of 12 numbers");
}

}  // namespace
}  // namespace nereid::program
