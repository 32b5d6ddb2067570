// Goal: what config.json says of weights that are quantised to be stored: compressed-tensors'
// configuration, which Quantization::parse reads, as other engines do.
// Non-goal: quantising (program/quantize_model.h); other packages' forms.
// Rejected: activations of 8 bits for fp8, as many checkpoints of it ask for. The file then says
// what was made and measured here, weights alone; engines take it (vLLM as W8A16), and who wants
// activations rounded too asks the engine for that.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/json.h"

namespace nereid::model {

// `format`: "int8", "fp8" or "int4"; an Error lists these. `group`: columns that share a scale, of
// int4. Of modules only the head may stay as it is: norms and embeddings are no "Linear", the kind
// that the configuration is for.
Json quantization_config(std::string_view format, std::int64_t group, bool has_head);

}  // namespace nereid::model
