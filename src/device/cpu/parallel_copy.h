// Goal: a large copy within host memory by all workers of a pool, each its own part: a page of the
// target is fastest for the worker that touched it first, and one core does not fill the memory.
// Non-goal: copies to a device.
#pragma once

#include <cstddef>
#include <span>

#include "device/cpu/thread_pool.h"

namespace nereid::device {

// Below this a pool is not worth waking.
inline constexpr std::size_t kCopySliceBytes = std::size_t{256} << 10;

void parallel_copy(ThreadPool& pool, std::byte* target, std::span<const std::byte> source);

}  // namespace nereid::device
