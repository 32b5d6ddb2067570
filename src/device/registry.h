// Goal: the one list of backends, and the choice of a device by name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/device.h"

namespace nereid::device {

// Keeps --threads 1000000 from taking the machine down.
inline constexpr int kMaxCpuThreads = 1024;

struct DeviceOptions {
  std::string name = "auto";  // auto | cpu | null | cuda[:i]; several: cuda:0,cuda:1 | cpu:N
  int n_threads = 0;          // cpu: 0 means every cpu the process may run on
};

// An Error says why the device asked for cannot be used, and which ones can; or that several are.
std::unique_ptr<Device> open_device(const DeviceOptions& options);

// One device, or several for one model. "cpu:N" are N that share the processor's threads.
std::vector<std::unique_ptr<Device>> open_devices(const DeviceOptions& options);

}  // namespace nereid::device
