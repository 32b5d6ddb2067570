// Goal: what the process may use of this machine: its cpus and its memory, with the limits of its
// control group.
// Non-goal: topology (caches, sockets).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace nereid::device {

struct HostCpus {
  std::vector<int> ids;  // the affinity mask
  int n_usable = 0;      // ids.size(), or less where the control group limits cpu time
};

HostCpus host_cpus();
std::string host_cpu_model();

struct HostMemory {
  std::size_t total_bytes = 0;      // physical, or the control group's limit if less
  std::size_t available_bytes = 0;  // of it, what can be taken without swapping
};

HostMemory host_memory();

}  // namespace nereid::device
