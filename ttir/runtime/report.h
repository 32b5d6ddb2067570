// Goal: what a kernel tells the person who runs it: failed assertions, a launch without arguments.
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

// Of a program with parameters. Objects are called by programs in any language: one that forgets
// the arguments is told so, and nothing is run.
inline bool lacks_arguments(const void* const* args, const char* kernel) {
  if (args != nullptr && args[0] != nullptr) return false;
  std::fprintf(stderr, "%s: launched without its arguments; nothing was run\n", kernel);
  return true;
}

}  // namespace nereid::rt
