// Goal: how long queued work takes on the device, as samples: each of many runs between two events,
// captured and replayed as one where the device can, so that the host's part is not measured.
// Non-goal: statistics of a whole generation (engine/stats.h).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "device/device.h"

namespace nereid::measure {

struct TimingOptions {
  int n_repeats = 7;
  double target_ms = 20;           // of one sample: the work is queued as often as this takes
  std::int64_t max_queued = 2048;  // times in one sample
};

// Seconds that `queue` takes once, a sample a repeat; the first runs are not counted.
std::vector<double> time_launches(device::Device& device, const std::function<void()>& queue,
                                  const TimingOptions& options);

double median(std::vector<double> samples);
// Sorted position round(q * (n - 1)).
double quantile_of(std::vector<double> samples, double q);

}  // namespace nereid::measure
