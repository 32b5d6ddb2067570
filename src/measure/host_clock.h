// Goal: the host's clock for work that ends on the host, as whole steps do.
// Non-goal: time on the device (timing.h).
#pragma once

#include <chrono>

namespace nereid::measure {

using Clock = std::chrono::steady_clock;

inline double ms_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - begin).count();
}

}  // namespace nereid::measure
