// Goal: what a kernel tells the person who runs it: failed assertions.
// Non-goal: tl.device_print, which is std::printf in the emitted text.
// Rejected: an error code for the caller: a program of a grid has nobody to return it to, and the
// memory it wrote is half done.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace nereid::rt {

[[noreturn]] inline void assertion_failed(const char* message, std::uint32_t x, std::uint32_t y,
                                          std::uint32_t z) {
  std::fflush(stdout);
  std::fprintf(stderr, "pid (%u, %u, %u): assertion failed: %s\n", x, y, z, message);
  std::abort();
}

}  // namespace nereid::rt
