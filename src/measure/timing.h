// Goal: how long queued work takes on the device, as samples: each of many runs between two events,
// captured and replayed as one where the device can, so that the host's part is not measured.
// Non-goal: statistics of a whole generation (engine/stats.h).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
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

struct TurnOptions {
  int n_rounds = 5;
  double target_ms = 5;
  std::int64_t max_queued = 2048;
  // A work whose best sample is worse than the worst of the best work by this factor is out of the
  // race after two rounds.
  double give_up = 1.5;
};

// The same for several works that take turns, so that a machine whose speed drifts treats them
// alike: samples of each. `go_on` is asked before each sample; after a no, nothing is returned.
std::vector<std::vector<double>> time_in_turns(device::Device& device,
                                               std::span<const std::function<void()>> works,
                                               const TurnOptions& options,
                                               const std::function<bool()>& go_on);

}  // namespace nereid::measure
