// Goal: what a test sets and reads of the driver stand-in, a libcuda.so.1 over host memory: it
// checks every argument, works as late as the real one may, fails where it is told, counts leaks.
// A capture is of one thread, as the engine asks for it.
// Non-goal: running cubins. A "kernel" here is out[i] = in[i] + 1, to see data in its order.
// Rejected: mocking the Device: then the driver calls, which are what can go wrong, are not run.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace nereid::device::cuda {

// A module's image: the ELF magic, then one line "ARCH SYMBOL PARAMS". PARAMS has a letter each:
// p a pointer into device memory, o the same or null, h i l a number of 16, 32, 64 bits, s a
// scratch pointer, which must be null, t a tensor map. A kernel of "ppi.." computes; others only
// check.
struct StandInLaunch {
  std::string symbol;
  std::array<std::uint32_t, 3> grid;
  std::array<std::uint32_t, 3> block;
  std::uint32_t shared_bytes;
  std::vector<std::uint64_t> args;                                  // with the scratch pointers
  std::vector<std::pair<std::uint32_t, std::uint32_t>> attributes;  // id, first number of the value
  bool is_replayed = false;                                         // one of a graph's
  int device = 0;
};

struct DriverStandIn {
  // Set by the test.
  int n_devices = 1;
  int arch = 90;  // major * 10 + minor
  int driver_version = 12040;
  bool has_memory_pools = true;
  bool has_peer_access = true;
  std::uint64_t memory_bytes = std::uint64_t{256} << 20;
  int fail_at = 0;  // the call of this number, from 1, fails; 0: none
  int fail_result = 719;
  std::string fail_kernel;  // launched, it fails when it runs; every later call then does
  std::function<void(const StandInLaunch&)> on_launch;  // a kernel's work, when it runs

  // Read by the test.
  int n_calls = 0;          // error texts do not count
  std::string failed_call;  // the one that fail_at made fail
  std::vector<std::string> calls;
  std::vector<std::string> violations;        // calls with arguments that no caller may pass
  std::vector<StandInLaunch> launches;        // in the order in which they ran
  std::vector<std::pair<int, int>> admitted;  // whose memory which other device's kernels may use

  std::string (*leaks)() = nullptr;  // what is still allocated, loaded or retained
  void (*reset)() = nullptr;         // as a new process finds it
};

// The library's own extra symbol: DriverStandIn* cuda_driver_stand_in().
using DriverStandInEntry = DriverStandIn* (*)();
inline constexpr const char* kDriverStandInEntry = "cuda_driver_stand_in";

}  // namespace nereid::device::cuda
