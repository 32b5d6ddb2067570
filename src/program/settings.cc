#include "program/settings.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/error.h"
#include "base/usage_error.h"
#include "device/cpu/isa.h"
#include "graph/passes/passes.h"
#include "kernel/spec.h"
#include "program/attention_designs.h"

namespace nereid::program {

std::string resolve_mode(const std::string& mode, std::string_view target) {
  if (mode == "auto") return kernel::target_family(target) == "cuda" ? "graph" : "compiled";
  if (mode != "eager" && mode != "compiled" && mode != "graph")
    throw Error("unknown mode \"{}\"; expected auto, eager, compiled or graph", mode);
  return mode;
}

DType activation_dtype(std::string_view target, DType weights) {
  return kernel::target_family(target) == "cpu" ? DType::fp32 : weights;
}

namespace {

// What a step of prompts may hold, and one in which answers go on.
struct StepTokens {
  std::int64_t batch, mixed;
};

// A GPU takes 2048 rows to be at its fastest, and 512 beside 64 answers take about twice the time
// of the answers alone. A processor computes each row for about the same: shorter steps only wait
// less.
StepTokens step_tokens(std::string_view target) {
  if (kernel::target_family(target) == "cpu") return {.batch = 512, .mixed = 128};
  return {.batch = 2048, .mixed = 512};
}

// Whether there are matrix units for e4m3.
bool multiplies_fp8(std::string_view target) {
  constexpr std::string_view kCuda = "cuda:";
  constexpr int kAda = 89;
  int arch = 0;
  if (!target.starts_with(kCuda)) return false;
  const auto digits = target.substr(kCuda.size());
  std::from_chars(digits.data(), digits.data() + digits.size(), arch);
  return arch >= kAda;
}

}  // namespace

std::optional<model::Quantization> quantization_of(const model::ModelConfig& config,
                                                   const std::string& asked) {
  if (asked.empty()) return config.quantization;
  if (config.quantization)
    throw UsageError("weights quantised to \"{}\": this model's are already ({}); leave it out",
                     asked, config.quantization->name);
  return model::Quantization::when_loaded(asked, config.dtype);
}

DType kv_cache_dtype(const model::ModelConfig& config, const std::string& asked) {
  if (asked == "auto") return config.dtype;
  if (asked != "fp8") throw UsageError("a key-value cache of \"{}\": expected auto or fp8", asked);
  if (config.quantization && !config.quantization->cache_refusal.empty())
    throw Error("{}", config.quantization->cache_refusal);
  return DType::fp8e4nv;
}

bool has_fp8_activations(const std::optional<model::Quantization>& quantization,
                         const Options& options, std::string_view target) {
  const auto& asked = options.activations;
  if (asked != "auto" && asked != "16" && asked != "8")
    throw UsageError("activations of \"{}\": expected auto, 16 or 8", asked);
  if (asked == "16") return false;
  const bool is_eager = resolve_mode(options.mode, target) == "eager";
  const bool has_weights = quantization && quantization->is_fp8_by_rows();
  if (asked == "auto")
    return has_weights && quantization->has_fp8_activations && multiplies_fp8(target) &&
           !is_eager && !options.batch_invariant;
  if (!has_weights)
    throw UsageError(
        "activations of 8 bits are for weights of fp8 (e4m3) with a scale a row; this model's are "
        "{}; --quantize fp8 makes such of a model of 16 bits, else leave --activations out",
        quantization ? fmt::format("others ({})", quantization->name) : "not quantised");
  if (kernel::target_family(target) != "cpu" && !multiplies_fp8(target))
    throw UsageError(
        "activations of 8 bits on {}: expected cuda:89 or later, or cpu; leave "
        "--activations out",
        target);
  if (is_eager)
    throw UsageError(
        "activations of 8 bits in mode eager: expected compiled or graph, whose steps "
        "have kernels for them");
  if (options.batch_invariant)
    throw UsageError(
        "activations of 8 bits beside --batch-invariant, which keeps them as they are: "
        "expected 16 or auto");
  return true;
}

Settings resolve(const model::ModelConfig& config, const Options& options,
                 const std::string& target, const model::Shard& shard) {
  model::check_ranks(config, shard.n_ranks);
  graph::check_pass_names(options.skip_passes);
  const auto& design = attention_design(options.attention);
  const auto kv_cache = kv_cache_dtype(config, options.kv_cache);
  if (kv_cache == DType::fp8e4nv && design.name != kOwnAttention)
    throw UsageError("attention by the design {} reads no cache of fp8; expected {} beside it",
                     design.name, kOwnAttention);
  const auto context =
      options.max_context_tokens == 0 ? config.max_context_tokens : options.max_context_tokens;
  if (context < 1 || context > config.max_context_tokens)
    throw UsageError("a context of {} tokens: this model's is 1 to {}", context,
                     config.max_context_tokens);
  for (const auto n_tokens : {options.max_batch_tokens, options.max_mixed_tokens})
    if (n_tokens < 0 || n_tokens > kMaxBatchTokens)
      throw UsageError("{} tokens a step: expected 1 to {}, or 0 to have it chosen", n_tokens,
                       kMaxBatchTokens);
  if (options.max_sequences < 1)
    throw Error("{} sequences a step: expected at least 1", options.max_sequences);
  const auto chosen = step_tokens(target);
  const auto batch_tokens = options.max_batch_tokens == 0 ? chosen.batch : options.max_batch_tokens;
  const auto mixed_tokens = options.max_mixed_tokens == 0 ? chosen.mixed : options.max_mixed_tokens;
  const auto sequences = std::min(options.max_sequences, batch_tokens);
  auto quantization = quantization_of(config, options.quantize);
  const bool fp8_activations = has_fp8_activations(quantization, options, target);
  return {target,
          resolve_mode(options.mode, target),
          options.skip_passes,
          options.is_tuned,
          options.batch_invariant,
          {.max_batch_tokens = batch_tokens,
           // Room for one token of each sequence, and one of a prompt.
           .max_mixed_tokens = std::min(batch_tokens, std::max(mixed_tokens, sequences + 1)),
           .max_sequences = sequences,
           .max_logit_rows = sequences,
           .block_tokens = kBlockTokens,
           .n_kv_blocks = std::max<std::int64_t>(options.n_kv_blocks, 0),
           .max_context_tokens = context,
           .window_tokens = config.widest_window(),
           .prefix_caching = options.prefix_caching,
           .caches_answers = !options.batch_invariant},
          std::move(quantization),
          design.name == kOwnAttention ? std::string() : std::string(design.name),
          kv_cache,
          shard,
          kernel::target_family(target) == "cpu" && device::multiplies_bytes(),
          fp8_activations};
}

}  // namespace nereid::program
