// Goal: what attention is measured as beside the model's own: functions of scores and masks, the
// same for every model, and the kernels that measuring them takes.
// Non-goal: timing (attention_bench.h), attention's functions in general
// (docs/attention_functions.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/request.h"
#include "model/config.h"
#include "nereid/options.h"

namespace nereid::measure {

// As the model has it; the first of all.
inline constexpr std::string_view kOwnVariant = "causal";
std::span<const std::string_view> attention_variants();
// An Error names them where there is none of that name.
void check_attention_variant(std::string_view name);

// The model with this variant in every layer, and room for so many tokens.
model::ModelConfig with_variant(model::ModelConfig config, std::string_view variant,
                                std::int64_t n_tokens);

// Of every variant by every design, as `nereid bench attention` runs them.
std::vector<kernel::KernelRequest> attention_bench_requests(const Options& options,
                                                            const std::string& target);

}  // namespace nereid::measure
