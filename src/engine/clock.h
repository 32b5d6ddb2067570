// Goal: the engine's clock, and the moments that callers' durations lead to.
// Non-goal: the time of day.
// Rejected: a plain sum. "As long as it takes" is often the largest duration there is, and the sum
// overflows into the past.
#pragma once

#include <algorithm>
#include <chrono>

namespace nereid::engine {

using Clock = std::chrono::steady_clock;

// Longer than any program runs, and far from what the clock can hold.
inline constexpr std::chrono::hours kForever(24 * 365 * 100);

inline Clock::time_point later(Clock::time_point now, std::chrono::milliseconds time) {
  if (time >= kForever) return Clock::time_point::max();
  return now + std::max(time, std::chrono::milliseconds(0));
}

}  // namespace nereid::engine
