#include "measure/attention_variants.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

#include "base/usage_error.h"
#include "program/attention_designs.h"
#include "program/planner.h"

namespace nereid::measure {

namespace {

// As the rivals are asked for them (bench/attention_cells.py).
constexpr double kSoftcap = 50.0;
constexpr std::int64_t kWindow = 1024;

}  // namespace

std::span<const std::string_view> attention_variants() {
  static constexpr std::string_view kVariants[] = {kOwnVariant, "alibi", "softcap", "window"};
  return kVariants;
}

void check_attention_variant(std::string_view name) {
  if (std::ranges::find(attention_variants(), name) == attention_variants().end())
    throw UsageError("there is no variant \"{}\" of attention; expected some of {}", name,
                     fmt::join(attention_variants(), ", "));
}

model::ModelConfig with_variant(model::ModelConfig config, std::string_view variant,
                                std::int64_t n_tokens) {
  check_attention_variant(variant);
  config.max_context_tokens = std::max(config.max_context_tokens, n_tokens);
  if (variant == kOwnVariant) return config;
  config.source_sha256.clear();  // its text does not say which kernels this takes
  config.attention_softcap = variant == "softcap" ? kSoftcap : 0.0;
  config.has_alibi = variant == "alibi";
  std::ranges::fill(config.layer_windows, variant == "window" ? kWindow : 0);
  return config;
}

std::vector<kernel::KernelRequest> attention_bench_requests(const Options& options,
                                                            const std::string& target) {
  const auto config = model::ModelConfig::load(options.model_dir);
  const auto tables = program::KernelTables::builtin(options.is_tuned);
  std::vector<kernel::KernelRequest> requests;
  for (const auto variant : attention_variants())
    for (const auto& design : program::attention_designs()) {
      auto planned = options;
      planned.attention = design.name;
      const auto changed = with_variant(config, variant, 0);
      std::ranges::move(program::requests_for_all_modes(
                            changed, program::resolve(changed, planned, target), tables),
                        std::back_inserter(requests));
    }
  return requests;
}

}  // namespace nereid::measure
