// Goal: the one list of backends, and the choice of a device by name.
#pragma once

#include <memory>
#include <string>

#include "device/device.h"

namespace nereid::device {

// Keeps --threads 1000000 from taking the machine down.
inline constexpr int kMaxCpuThreads = 1024;

struct DeviceOptions {
  std::string name = "auto";  // auto | cpu | null | cuda[:i]
  int n_threads = 0;          // cpu: 0 means every cpu the process may run on
};

// An Error says why the device asked for cannot be used, and which ones can.
std::unique_ptr<Device> open_device(const DeviceOptions& options);

}  // namespace nereid::device
