// Goal: copies of what a launch reads, which take turns so that no cache holds the next: how many
// at most, and where each begins. Non-goal: making them (launch_bench.cc, graph_bench.cc).
#pragma once

#include <cstddef>

namespace nereid::measure {

inline constexpr std::size_t kMaxCopies = 256;
// More than any kernel or tensor map asks for.
inline constexpr std::size_t kAlignmentBytes = 256;

constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

}  // namespace nereid::measure
