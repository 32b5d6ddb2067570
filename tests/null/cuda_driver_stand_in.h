// Goal: what a test sets and reads of the driver stand-in, a libcuda.so.1 over host memory: it
// checks every argument, works as late as the real one may, fails where it is told, counts leaks.
// Non-goal: running cubins. A "kernel" here is out[i] = in[i] + 1, to see data in its order.
// Rejected: mocking the Device: then the driver calls, which are what can go wrong, are not run.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace nereid::device::cuda {

// A module's image: the ELF magic, then one line "ARCH SYMBOL PARAMS". PARAMS has a letter each:
// p a pointer into device memory, i a 32-bit number, s a scratch pointer, which must be null.
// A kernel of "ppi.." computes; others only check.
struct StandInLaunch {
  std::string symbol;
  std::array<std::uint32_t, 3> grid;
  std::array<std::uint32_t, 3> block;
  std::uint32_t shared_bytes;
};

struct DriverStandIn {
  // Set by the test.
  int n_devices = 1;
  int arch = 90;  // major * 10 + minor
  std::uint64_t memory_bytes = std::uint64_t{256} << 20;
  int fail_at = 0;  // the call of this number, from 1, fails; 0: none
  int fail_result = 719;
  std::string fail_kernel;  // launched, it fails when it runs; every later call then does

  // Read by the test.
  int n_calls = 0;          // error texts do not count
  std::string failed_call;  // the one that fail_at made fail
  std::vector<std::string> calls;
  std::vector<std::string> violations;  // calls with arguments that no caller may pass
  std::vector<StandInLaunch> launches;

  std::string (*leaks)() = nullptr;  // what is still allocated, loaded or retained
  void (*reset)() = nullptr;         // as a new process finds it
};

// The library's own extra symbol: DriverStandIn* cuda_driver_stand_in().
using DriverStandInEntry = DriverStandIn* (*)();
inline constexpr const char* kDriverStandInEntry = "cuda_driver_stand_in";

}  // namespace nereid::device::cuda
