// No kernel is kept that nothing launches: the plans of the models at hand, in every mode, on one
// device or two, and the benches together ask for each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "model/config.h"
#include "program/attention_designs.h"
#include "program/planner.h"

namespace nereid::program {
namespace {

namespace fs = std::filesystem;

// Launched by `nereid bench kernels` to find the machine's limits, and by no model.
const std::set<std::string> kOfBenches{"dot_peak", "stream_read"};

// Launched when weights are made or written, or logits compared, by no step.
const std::set<std::string> kOfWeights{"compare_logits", "pack_weight", "quantize_weight",
                                       "unpack_weight"};

TEST(Kernels, EachIsLaunchedBySomething) {
  const auto tables = KernelTables::builtin();
  std::set<std::string> in_use = kOfBenches;
  in_use.insert(kOfWeights.begin(), kOfWeights.end());
  for (const char* folder : {"configs", "tests/fixtures", "tests/fixtures/quantized"})
    for (const auto& model : fs::directory_iterator(fs::path(NEREID_SOURCE_DIR) / folder)) {
      if (!fs::exists(model.path() / "config.json")) continue;
      const auto config = model::ModelConfig::load(model.path());
      for (const char* target : {"cpu", "cuda:90"})
        for (const auto& request :
             requests_for_all_modes(config, resolve(config, {}, target), tables))
          in_use.insert(request.kernel);
    }
  const auto config =
      model::ModelConfig::load(fs::path(NEREID_SOURCE_DIR) / "tests/fixtures/llama3");
  for (const auto& request : requests_for(config, resolve(config, {}, "cpu", {0, 2}), tables))
    in_use.insert(request.kernel);
  for (const auto& design : attention_designs()) {
    const auto settings = resolve(config, {.attention = std::string(design.name)}, "cpu");
    for (const auto& request : requests_for_all_modes(config, settings, tables))
      in_use.insert(request.kernel);
  }
  std::set<std::string> idle;
  for (const auto& [name, spec] : tables.specs.specs())
    if (!in_use.contains(name)) idle.insert(name);
  EXPECT_THAT(idle, ::testing::IsEmpty()) << "delete them, or let a plan use them";
}

}  // namespace
}  // namespace nereid::program
