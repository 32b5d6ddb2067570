// Goal: every launch of a few steps, with its kernel, object, grid and time.
// Non-goal: how long a step takes: that is end_to_end.h. Nothing is captured while tracing, and
// where the host is slower than the device, a part of what a launch costs it is in the times.
#pragma once

#include <cstdint>
#include <vector>

#include "measure/recording_device.h"
#include "nereid/options.h"

namespace nereid::measure {

struct TraceOptions {
  Options engine;
  std::int64_t n_batch = 1;
  std::int64_t n_prompt_tokens = 32;
  std::int64_t n_steps = 8;  // the first computes the prompts
};

struct StepRecord {
  std::size_t first_launch, n_launches;
  double begin_us, end_us;  // since the first step began
};

struct Trace {
  device::DeviceInfo device;
  std::vector<LoadedObject> objects;
  std::vector<LaunchRecord> launches;
  std::vector<StepRecord> steps;
};

Trace record_trace(const TraceOptions& options);

}  // namespace nereid::measure
