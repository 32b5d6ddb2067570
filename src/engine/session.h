// Goal: everything a model needs to run, opened in the order that is quickest: the tokenizer is
// read beside the weights.
// Non-goal: requests (Generator) and scores (scoring).
#pragma once

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "device/registry.h"
#include "engine/constraint_cache.h"
#include "engine/runner.h"
#include "model/config.h"
#include "nereid/options.h"
#include "tokenizer/tokenizer.h"

namespace nereid::engine {

class Session {
 public:
  explicit Session(const Options& options, const ProgressSink& progress = {});

  const model::ModelConfig& config() const { return config_; }
  // The first, where there are several.
  const device::Device& device() const { return *devices_[0]; }
  Runner& runner() { return *runner_; }
  const Options& options() const { return options_; }
  // Null where the model has no tokenizer.json.
  const tokenizer::Tokenizer* tokenizer() const { return tokenizer_.get(); }
  const std::shared_ptr<const tokenizer::Tokenizer>& shared_tokenizer() const { return tokenizer_; }
  ConstraintCache& constraints() { return *constraints_; }
  const std::vector<std::int32_t>& eos_ids() const { return eos_ids_; }

 private:
  Options options_;
  model::ModelConfig config_;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
  std::optional<ConstraintCache> constraints_;
  std::vector<std::int32_t> eos_ids_;
  std::vector<std::unique_ptr<device::Device>> devices_;
  std::unique_ptr<Runner> runner_;  // dies before its devices
};

// Null where the directory has no tokenizer.json.
std::unique_ptr<const tokenizer::Tokenizer> load_tokenizer(const std::filesystem::path& model_dir);

// The ids that end a text: those that the model's files name, or that of the end token which its
// tokenizer has.
std::vector<std::int32_t> end_ids(const model::GenerationSettings& settings,
                                  const tokenizer::Tokenizer* tokenizer);

}  // namespace nereid::engine
