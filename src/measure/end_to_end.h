// Goal: a model's speed as a user meets it: a batch of prompts in, answers of a fixed length out,
// in each mode that was asked for, tuned or not, with what the hardware would allow beside it.
// Non-goal: single kernels (kernel_bench.h), quality.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "measure/limits.h"
#include "measure/proof.h"
#include "measure/recording_device.h"
#include "measure/workload.h"
#include "nereid/options.h"

namespace nereid::measure {

struct EndToEndOptions {
  Options engine;  // mode and sizes follow from the next two
  std::vector<std::string> modes;
  bool compares_tuning = false;  // each mode with measured choices of kernels and with defaults
  Workload workload;
  int n_warmup = 1;
  int n_repeats = 3;
  bool must_prove = false;
};

// One mode. Times are medians over the repeats; tokens a second are of generated tokens over the
// whole time, prompts included.
struct EndToEndRow {
  std::string mode;
  bool is_tuned = true;
  double tokens_per_s = 0;
  double ttft_ms = 0;        // until every sequence has its first token
  double itl_ms = 0;         // (whole - ttft) / (n_output - 1)
  double itl_ms_median = 0;  // over all gaps between two steps
  double itl_ms_p99 = 0;
  double weight_bytes_per_s = 0;       // read by a decode step, over itl_ms
  std::int64_t launches_per_step = 0;  // of one device
  std::size_t device_bytes = 0;        // of all: weights, cache and activations of this mode
  std::int64_t host_peak_bytes = 0;
  std::vector<double> samples_tokens_per_s;  // a repeat each
};

struct EndToEndResult {
  device::DeviceInfo device;  // of several the first
  std::size_t n_devices = 1;
  Limits limits;                           // of all devices
  std::string weights;                     // weights_name of model_cost.h
  std::int64_t streamed_weight_bytes = 0;  // weights that a decode step reads whole
  std::vector<EndToEndRow> rows;
  std::optional<Proof> proof;
};

// An Error where a mode is refused, memory does not suffice, or the proof fails.
EndToEndResult run_end_to_end(const EndToEndOptions& options);

}  // namespace nereid::measure
