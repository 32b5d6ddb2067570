#include "program/settings.h"

#include <algorithm>

#include "base/error.h"
#include "base/usage_error.h"
#include "graph/passes/passes.h"
#include "kernel/spec.h"

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

Settings resolve(const model::ModelConfig& config, const Options& options,
                 const std::string& target) {
  graph::check_pass_names(options.skip_passes);
  const auto context =
      options.max_context_tokens == 0 ? config.max_context_tokens : options.max_context_tokens;
  if (context < 1 || context > config.max_context_tokens)
    throw UsageError("a context of {} tokens: this model's is 1 to {}", context,
                     config.max_context_tokens);
  if (options.max_batch_tokens < 1 || options.max_batch_tokens > kMaxBatchTokens)
    throw Error("{} tokens a step: expected 1 to {}", options.max_batch_tokens, kMaxBatchTokens);
  if (options.max_sequences < 1)
    throw Error("{} sequences a step: expected at least 1", options.max_sequences);
  const auto sequences = std::min(options.max_sequences, options.max_batch_tokens);
  return {target,
          resolve_mode(options.mode, target),
          options.skip_passes,
          {.max_batch_tokens = options.max_batch_tokens,
           .max_sequences = sequences,
           .max_logit_rows = sequences,
           .block_tokens = kBlockTokens,
           .n_kv_blocks = std::max<std::int64_t>(options.n_kv_blocks, 0),
           .max_context_tokens = context}};
}

}  // namespace nereid::program
