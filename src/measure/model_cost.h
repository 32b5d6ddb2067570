// Goal: what a model's step must move, whatever runs it: told from its graph, not from its planner.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace nereid::measure {

// Bytes of the weights that every decode step reads whole: all but tables of which it reads a few
// rows.
std::int64_t streamed_weight_bytes(const model::ModelConfig& config);

}  // namespace nereid::measure
