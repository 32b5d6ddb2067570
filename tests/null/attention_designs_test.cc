// The designs that `--attention` names are those of the kernels, and each serves what it says.
#include "program/attention_designs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "base/usage_error.h"
#include "model/config.h"
#include "program/planner.h"

namespace nereid::program {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

model::ModelConfig demo() {
  return model::ModelConfig::load(std::filesystem::path(NEREID_SOURCE_DIR) / "models/demo");
}

// The kernels of attention, by the rows that they compute, of steps with prompts beside others and
// of steps that only decode.
struct Kernels {
  std::multimap<std::string, std::string> mixed;
  std::set<std::string> decode;
};

Kernels kernels_of(const std::string& design, const std::string& mode, const std::string& target) {
  const auto config = representative(demo());
  const auto tables = KernelTables::builtin();
  const Planner planner(config, resolve(config, {.mode = mode, .attention = design}, target),
                        tables);
  Kernels kernels;
  for (const bool is_decode : {false, true}) {
    const auto plan = planner.plan({model::Tail::greedy, is_decode, 3, 1});
    for (const auto& launch : plan.launches) {
      const auto& node = plan.graph.nodes[launch.node];
      if (node.row().op_class != graph::OpClass::attention) continue;
      if (is_decode)
        kernels.decode.insert(launch.spec->name);
      else
        kernels.mixed.emplace(node.text_attr("rows"), launch.spec->name);
    }
  }
  return kernels;
}

std::map<std::string, std::string> kernels_by_design() {
  const auto tables = KernelTables::builtin();
  std::map<std::string, std::string> kernels;
  for (const auto& [name, spec] : tables.specs.specs())
    if (!spec.design.empty()) {
      EXPECT_EQ(spec.op, "attention") << name;
      EXPECT_TRUE(kernels.emplace(spec.design, name).second) << spec.design << " twice";
    }
  return kernels;
}

TEST(AttentionDesigns, AreThoseOfTheKernels) {
  std::set<std::string> rows, kernels;
  for (const auto& row : attention_designs())
    if (row.name != kOwnAttention) rows.insert(std::string(row.name));
  for (const auto& [design, kernel] : kernels_by_design()) kernels.insert(design);
  EXPECT_EQ(rows, kernels);
  EXPECT_EQ(attention_designs().front().name, kOwnAttention);
}

TEST(AttentionDesigns, EachComputesWhatItServesAndNothingElseDoes) {
  const auto kernels = kernels_by_design();
  for (const char* target : {"cpu", "cuda:90"})
    for (const char* mode : {"eager", "compiled"})
      for (const auto& row : attention_designs()) {
        if (row.name == kOwnAttention) continue;
        SCOPED_TRACE(testing::Message() << row.name << " " << mode << " " << target);
        const auto& kernel = kernels.at(std::string(row.name));
        const auto found = kernels_of(std::string(row.name), mode, target);
        EXPECT_EQ(found.decode, std::set{kernel});
        const std::multimap<std::string, std::string> expected{
            {"prompt", row.serves_prompts ? kernel : "attention_prefill"}, {"decode", kernel}};
        EXPECT_EQ(found.mixed, expected);
      }
}

TEST(AttentionDesigns, NoneIsTakenUnasked) {
  for (const char* target : {"cpu", "cuda:90"})
    for (const char* mode : {"eager", "compiled"}) {
      const auto found = kernels_of(std::string(kOwnAttention), mode, target);
      for (const auto& [design, kernel] : kernels_by_design()) {
        EXPECT_THAT(found.decode, Not(Contains(kernel)));
        for (const auto& [rows, name] : found.mixed) EXPECT_NE(name, kernel);
      }
    }
}

TEST(AttentionDesigns, AnUnknownNameIsAnErrorThatNamesThem) {
  try {
    resolve(demo(), {.attention = "flashy"}, "cpu");
    FAIL() << "expected an error";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("flashy"));
    for (const auto& row : attention_designs())
      EXPECT_THAT(error.what(), HasSubstr(std::string(row.name)));
  }
}

}  // namespace
}  // namespace nereid::program
