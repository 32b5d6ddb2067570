// Goal: how long a step takes over the whole range of what users run: sequences, contexts and
// samplers of decoding, lengths of prompts; one engine for all, so that a run is minutes.
// Non-goal: requests that come and go (serve_bench.h), single kernels (kernel_bench.h).
// Rejected: an engine for each cell. What is measured is the engine that a server would have.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "measure/limits.h"
#include "nereid/options.h"
#include "nereid/request.h"

namespace nereid::measure {

struct SweepOptions {
  Options engine;  // sizes follow from the cells
  std::vector<std::int64_t> sequences{1, 2, 4, 8, 16, 32, 64};
  std::vector<std::int64_t> contexts{512};  // tokens before the first step that is timed
  std::vector<std::string> samplers{"greedy"};
  std::vector<std::int64_t> prompts{};  // tokens of one prompt, whose first token is timed
  std::int64_t n_steps = 64;            // timed steps of a decode cell
  int n_repeats = 3;                    // of a prompt
  std::uint64_t seed = 1;               // of all ids
};

// The parameters of a sampler by its name; an Error names those that there are.
SamplingParams sampler_of(std::string_view name);

struct DecodeCell {
  std::int64_t n_sequences = 0, n_context = 0;
  std::string sampler;
  double step_ms = 0, step_ms_p99 = 0;  // median and 99th percentile of the steps
  // What streaming the weights, and the keys and values of the mean context, would take.
  double floor_ms = 0;
};

struct PromptCell {
  std::int64_t n_tokens = 0;
  double first_token_ms = 0;  // median
};

struct SweepResult {
  device::DeviceInfo device;  // of several the first
  std::size_t n_devices = 1;
  std::string mode;
  std::string weights;  // weights_name of model_cost.h
  Limits limits;        // of all devices
  std::vector<DecodeCell> decode;
  std::vector<PromptCell> prompts;
};

// An Error where a cell does not fit the device.
SweepResult run_sweep(const SweepOptions& options);

}  // namespace nereid::measure
