#include "engine/session.h"

#include <malloc.h>

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

Session::Session(const Options& options, const ProgressSink& progress) : options_(options) {
  check_options(options);
  auto tokenizer =
      std::async(std::launch::async, [&] { return load_tokenizer(options_.model_dir); });
  config_ = model::ModelConfig::load(options_.model_dir);
  if (options.strict) config_.refuse_ignored();
  devices_ = device::open_devices({.name = options_.device, .n_threads = options_.n_threads});
  std::vector<device::Device*> devices;
  for (const auto& device : devices_) devices.push_back(device.get());
  runner_ = Runner::create(devices, config_, options_, progress);
  tokenizer_ = tokenizer.get();
  constraints_.emplace(tokenizer_, runner_->vocab_size());
  eos_ids_ = end_ids(config_.generation, tokenizer_.get());
  // What was needed to read files goes back to the system.
  malloc_trim(0);
}

}  // namespace nereid::engine
