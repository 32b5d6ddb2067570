#include "measure/sweep.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <random>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/quantile.h"
#include "device/registry.h"
#include "engine/generator.h"
#include "measure/host_clock.h"
#include "measure/model_cost.h"
#include "measure/timing.h"
#include "model/config.h"
#include "program/settings.h"

namespace nereid::measure {

namespace {

// In so many steps all sequences of a cell have begun, whose prompts are cached but for a block.
constexpr std::int64_t kBeginSteps = 256;

struct Sampler {
  std::string_view name;
  SamplingParams params;
};

const std::array<Sampler, 4>& samplers() {
  static const std::array<Sampler, 4> table{
      Sampler{"greedy", {}},
      {"temperature", {.temperature = 0.8F}},
      {"top-p", {.temperature = 0.8F, .top_p = 0.95F}},
      {"all",
       {.temperature = 0.8F,
        .top_k = 40,
        .top_p = 0.95F,
        .min_p = 0.02F,
        .repetition_penalty = 1.1F}},
  };
  return table;
}

// Room for every cell. Prompts are cached: a cell's are computed once, and when they come again its
// sequences begin to decode together.
Options engine_options(const SweepOptions& options) {
  Options engine = options.engine;
  // Some steps more: those that began first decode while the others begin.
  const auto longest = std::ranges::max(options.contexts) + options.n_steps + kBeginSteps;
  engine.max_context_tokens = longest;
  for (const auto n_tokens : options.prompts)
    engine.max_context_tokens = std::max(engine.max_context_tokens, n_tokens + 1);
  engine.max_sequences = std::ranges::max(options.sequences);
  const auto blocks_of = [](std::int64_t n_tokens) {
    return (n_tokens + program::kBlockTokens - 1) / program::kBlockTokens;
  };
  engine.n_kv_blocks =
      std::max(engine.max_sequences * blocks_of(longest), blocks_of(engine.max_context_tokens));
  engine.prefix_caching = true;
  return engine;
}

class Sweep {
 public:
  Sweep(const SweepOptions& options, engine::Runner& runner, const model::ModelConfig& config)
      : options_(options), generator_(runner, /*eos_ids=*/{}), config_(config) {}

  // The gaps between steps in which all sequences get a token each.
  std::vector<double> decode_ms(std::int64_t n_sequences, std::int64_t n_context,
                                const SamplingParams& sampling) {
    std::vector<Request> requests(static_cast<std::size_t>(n_sequences));
    for (auto& request : requests) {
      // Whole blocks are found again; the token after them is what is left to compute.
      request = random_request(n_context + 1, 1);
      generator_.submit(request);
    }
    while (step()) {
    }
    begun_.clear();
    for (auto& request : requests) {
      request.sampling = sampling;
      request.max_tokens = options_.n_steps + kBeginSteps - 1;
      generator_.submit(request);
    }
    while (std::ssize(begun_) < n_sequences) step();
    std::vector<double> gaps_ms;
    auto last = Clock::now();
    for (std::int64_t i = 0; i < options_.n_steps; ++i) {
      n_tokens_ = 0;
      step();
      NEREID_CHECK(n_tokens_ == n_sequences, "{} of {} tokens came", n_tokens_, n_sequences);
      const auto now = Clock::now();
      gaps_ms.push_back(ms_between(last, now));
      last = now;
    }
    for (const auto request : std::exchange(begun_, {})) generator_.cancel(request);
    while (step()) {
    }
    return gaps_ms;
  }

  double first_token_ms(std::int64_t n_tokens) {
    const auto request = random_request(n_tokens, 1);
    const auto begin = Clock::now();
    generator_.submit(request);
    while (step()) {
    }
    return ms_between(begin, Clock::now());
  }

 private:
  Request random_request(std::int64_t n_tokens, std::int64_t n_answer) {
    Request request;
    const auto vocabulary = static_cast<std::uint64_t>(config_.vocab_size);
    for (std::int64_t i = 0; i < n_tokens; ++i)
      request.prompt_ids.push_back(static_cast<TokenId>(random_() % vocabulary));
    request.max_tokens = n_answer;
    request.ignore_eos = true;
    return request;
  }

  // False where nothing is left to do.
  bool step() {
    std::string failure;
    const bool is_going = generator_.step([&](const engine::AnswerEvent& event) {
      n_tokens_ += std::ssize(event.ids);
      if (!event.ids.empty()) begun_.insert(event.request);
      if (failure.empty()) failure = event.error;
      return false;
    });
    if (!failure.empty()) throw Error("{}", failure);
    return is_going;
  }

  const SweepOptions& options_;
  engine::Generator generator_;
  const model::ModelConfig& config_;
  std::mt19937_64 random_{options_.seed};
  std::int64_t n_tokens_ = 0;
  std::unordered_set<RequestId> begun_;  // those that have a token
};

void check(const SweepOptions& options) {
  if (options.sequences.empty() || options.contexts.empty() || options.samplers.empty())
    throw Error("nothing to measure: sequences, contexts and samplers name at least one each");
}

}  // namespace

SamplingParams sampler_of(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& row : samplers()) {
    if (row.name == name) return row.params;
    names.push_back(row.name);
  }
  throw Error("unknown sampler \"{}\"; expected {}", name, fmt::join(names, ", "));
}

SweepResult run_sweep(const SweepOptions& options) {
  check(options);
  for (const auto& name : options.samplers) sampler_of(name);
  const auto config = model::ModelConfig::load(options.engine.model_dir);
  const auto opened =
      device::open_devices({.name = options.engine.device, .n_threads = options.engine.n_threads});
  std::vector<device::Device*> devices;
  for (const auto& device : opened) devices.push_back(device.get());
  SweepResult result;
  result.device = devices[0]->info();
  result.n_devices = devices.size();
  result.mode = program::resolve_mode(options.engine.mode, result.device.target);
  const auto quantization = program::quantization_of(config, options.engine.quantize);
  result.weights = weights_name(config, quantization);
  const auto weight_bytes = streamed_weight_bytes(config, quantization);
  const auto cache_dtype = program::kv_cache_dtype(config, options.engine.kv_cache);
  result.limits = of_devices(
      measure_limits(*devices[0], config, options.engine, static_cast<std::size_t>(weight_bytes)),
      devices.size());
  const auto runner = engine::Runner::create(devices, config, engine_options(options));
  Sweep sweep(options, *runner, config);
  for (const auto n_context : options.contexts)
    for (const auto n_sequences : options.sequences)
      for (const auto& sampler : options.samplers) {
        const auto gaps = sweep.decode_ms(n_sequences, n_context, sampler_of(sampler));
        const auto bytes = static_cast<double>(
            weight_bytes +
            n_sequences * cached_bytes(config, cache_dtype, n_context + options.n_steps / 2));
        result.decode.push_back({n_sequences, n_context, sampler, quantile(gaps, 0.5),
                                 quantile(gaps, 0.99),
                                 1e3 * bytes / result.limits.stream_bytes_per_s});
      }
  for (const auto n_tokens : options.prompts) {
    sweep.first_token_ms(n_tokens);  // what is made ready once
    std::vector<double> samples;
    for (int i = 0; i < options.n_repeats; ++i) samples.push_back(sweep.first_token_ms(n_tokens));
    result.prompts.push_back({n_tokens, median(std::move(samples))});
  }
  return result;
}

}  // namespace nereid::measure
