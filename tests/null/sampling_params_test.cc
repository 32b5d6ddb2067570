// The table of sampling parameters, against the op that takes them and the inputs that carry them.
#include "engine/sampling_params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "device/cpu/cpu_device.h"
#include "graph/ir.h"
#include "model/architecture.h"

namespace nereid::engine {
namespace {

namespace names = model::names;

TEST(SamplingParams, AreTheRolesOfTheOps) {
  std::vector<std::string_view> expected;
  for (const auto& param : kSamplingParams) expected.push_back(param.name);
  for (const char* name : {names::kSeed, names::kStep, names::kRowSlots})
    expected.emplace_back(name);
  // What is a number a row of logits.
  std::set<std::string_view> roles;
  for (const auto op : {graph::Op::sample, graph::Op::adjust_logits})
    for (const auto& role : graph::op_row(op).operands)
      if (role.type.text.ends_with("[N]")) roles.insert(role.name);
  EXPECT_THAT(roles, testing::UnorderedElementsAreArray(expected));
}

TEST(SamplingParams, AreAsAModelsMakersSuggest) {
  const auto suggested = suggested_sampling({.eos_ids = {},
                                             .eos_token = {},
                                             .eos_source = {},
                                             .sampling = {{"do_sample", "true", "a.json"},
                                                          {"top_k", "20", "a.json"},
                                                          {"top_p", "0.95", "a.json"}}});
  EXPECT_EQ(suggested.temperature, 1.0F);  // not greedy, where nobody says
  EXPECT_EQ(suggested.top_k, 20);
  EXPECT_EQ(suggested.top_p, 0.95F);
  EXPECT_EQ(suggested.repetition_penalty, 1.0F);
  for (const char* value : {"-1", "\"warm\"", "[]"}) {
    try {
      suggested_sampling({.eos_ids = {},
                          .eos_token = {},
                          .eos_source = {},
                          .sampling = {{"temperature", value, "generation_config.json"}}});
      ADD_FAILURE() << value;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("generation_config.json"),
                                               testing::HasSubstr("temperature")));
    }
  }
}

TEST(SamplingInputs, EachValueGoesToItsInputAndRow) {
  device::CpuDevice device(1);
  program::StepInputs inputs(device);
  const std::vector<std::pair<std::string, DType>> columns{{"temperature", DType::fp32},
                                                           {"top_k", DType::i32},
                                                           {"top_p", DType::fp32},
                                                           {"min_p", DType::fp32},
                                                           {"repetition_penalty", DType::fp32},
                                                           {"presence_penalty", DType::fp32},
                                                           {"frequency_penalty", DType::fp32},
                                                           {names::kSeed, DType::i64},
                                                           {names::kStep, DType::i32},
                                                           {names::kRowSlots, DType::i32},
                                                           {names::kNTop, DType::i32}};
  for (const auto& [name, dtype] : columns)
    inputs.declare({.kind = graph::ValueKind::input, .name = name, .dtype = dtype, .shape = {3}},
                   {}, {});
  inputs.seal(names::kSeed);
  const SamplingInputs sampling(inputs);
  const SamplingRow plain{.params = {}, .seed = 5};
  sampling.fill(inputs, std::array{plain, SamplingRow{.params = {.temperature = 0.5F,
                                                                 .top_k = -1,
                                                                 .top_p = 0.25F,
                                                                 .min_p = 0.125F,
                                                                 .repetition_penalty = 1.5F,
                                                                 .presence_penalty = -0.75F,
                                                                 .frequency_penalty = 0.375F,
                                                                 .seed = {}},
                                                      .seed = std::uint64_t{1} << 63,
                                                      .n_generated = 7,
                                                      .slot = 2,
                                                      .n_top = 20}});
  const auto expect = [&]<typename T>(const char* name, T of_plain, T value) {
    EXPECT_THAT(inputs.elements<T>(inputs.handle(name)), testing::ElementsAre(of_plain, value, T{}))
        << name;
  };
  expect("temperature", 0.0F, 0.5F);
  expect("top_k", std::int32_t{0}, std::int32_t{-1});
  expect("top_p", 1.0F, 0.25F);
  expect("min_p", 0.0F, 0.125F);
  expect("repetition_penalty", 1.0F, 1.5F);
  expect("presence_penalty", 0.0F, -0.75F);
  expect("frequency_penalty", 0.0F, 0.375F);
  expect(names::kSeed, std::uint64_t{5}, std::uint64_t{1} << 63);
  expect(names::kStep, std::int32_t{0}, std::int32_t{7});
  expect(names::kRowSlots, std::int32_t{-1}, std::int32_t{2});
  expect(names::kNTop, std::int32_t{-1}, std::int32_t{20});
}

TEST(SamplingRow, AnyPenaltyIsOne) {
  EXPECT_FALSE(SamplingRow{}.has_penalty());
  EXPECT_TRUE(SamplingRow{.params = {.repetition_penalty = 0.5F}}.has_penalty());
  EXPECT_TRUE(SamplingRow{.params = {.presence_penalty = -1.0F}}.has_penalty());
  EXPECT_TRUE(SamplingRow{.params = {.frequency_penalty = 1.0F}}.has_penalty());
}

TEST(SamplingInputsDeathTest, AnInputThatNoGraphHasIsABug) {
  device::CpuDevice device(1);
  program::StepInputs inputs(device);
  inputs.declare({.kind = graph::ValueKind::input, .name = "x", .dtype = DType::i32, .shape = {1}},
                 {}, {});
  inputs.seal("x");
  EXPECT_DEATH(SamplingInputs{inputs}, "no graph that samples reads seed");
}

}  // namespace
}  // namespace nereid::engine
