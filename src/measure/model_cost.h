// Goal: what a model's step must move, whatever runs it: told from its graph, not from its planner.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "measure/step_planner.h"
#include "model/config.h"
#include "program/planner.h"

namespace nereid::measure {

// Bytes of the weights that every decode step reads whole: all but tables of which it reads a few
// rows.
std::int64_t streamed_weight_bytes(const model::ModelConfig& config,
                                   const std::optional<model::Quantization>& quantization);

// For people: "fp16", "int4", "gptq".
std::string weights_name(const model::ModelConfig& config,
                         const std::optional<model::Quantization>& quantization);

// Bytes of the keys and values that a sequence of so many tokens has in the caches and a decode
// step reads: of layers with a window no more than it. `cache`: their element type.
std::int64_t cached_bytes(const model::ModelConfig& config, DType cache, std::int64_t n_tokens);

struct LaunchCost {
  double bytes = 0, flops = 0;
};
// What a launch of a step of this shape moves and computes: as its Spec says; of attention, whose
// Spec only knows how long a block table is, what the step's keys make it.
LaunchCost launch_cost(const program::Planner& planner, const graph::Graph& graph,
                       const program::PlannedLaunch& launch, const StepShape& shape,
                       std::int64_t n_logits);

}  // namespace nereid::measure
