#include "engine/session.h"

#include <algorithm>

#include "engine/ranges.h"

namespace nereid::engine {

std::unique_ptr<const tokenizer::Tokenizer> load_tokenizer(const std::filesystem::path& model_dir) {
  if (!std::filesystem::exists(model_dir / "tokenizer.json")) return nullptr;
  return std::make_unique<const tokenizer::Tokenizer>(tokenizer::Tokenizer::load(model_dir));
}

std::vector<std::int32_t> end_ids(const model::GenerationSettings& settings,
                                  const tokenizer::Tokenizer* tokenizer) {
  if (!settings.eos_ids.empty() || settings.eos_token.empty() || tokenizer == nullptr)
    return settings.eos_ids;
  const auto id = tokenizer->token_id(settings.eos_token);
  return id ? std::vector{*id} : std::vector<std::int32_t>();
}

RunnerOptions runner_options(const Options& options) {
  RunnerOptions result;
  result.model_dir = options.model_dir;
  result.mode = options.mode;
  result.skip_passes = options.skip_passes;
  result.random_weights = options.random_weights;
  result.max_batch_tokens = options.max_batch_tokens;
  result.max_sequences = std::min(options.max_sequences, options.max_batch_tokens);
  result.max_context_tokens = options.max_context_tokens;
  result.n_kv_blocks = options.n_kv_blocks;
  result.bundle_dir = options.bundle_dir;
  result.print_launches = options.print_launches;
  result.check_numbers = options.check_numbers;
  return result;
}

Session::Session(const Options& options) : options_(options) {
  check_options(options);
  auto tokenizer =
      std::async(std::launch::async, [&] { return load_tokenizer(options_.model_dir); });
  config_ = model::ModelConfig::load(options_.model_dir);
  if (options.strict) config_.refuse_ignored();
  device_ = device::open_device({.name = options_.device, .n_threads = options_.n_threads});
  runner_ = Runner::create(*device_, config_, runner_options(options_));
  tokenizer_ = tokenizer.get();
  eos_ids_ = end_ids(config_.generation, tokenizer_.get());
}

}  // namespace nereid::engine
