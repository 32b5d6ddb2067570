// Goal: what this device can do at most, measured by Triton kernels: bytes read and products a
// second. What other kernels reach is told as a part of these.
// Non-goal: data sheets.
#pragma once

#include <string>
#include <vector>

#include "device/device.h"
#include "kernel/bundle_source.h"
#include "kernel/request.h"
#include "model/config.h"
#include "nereid/options.h"
#include "tensor/dtype.h"

namespace nereid::measure {

struct Limits {
  std::size_t stream_bytes = 0;  // size of the array that was read again and again
  double stream_bytes_per_s = 0;
  double dot_flops_per_s = 0;
  DType dot_dtype = DType::fp32;  // of the operands; sums are fp32
};

// The kernels that measuring takes; every bundle made by `nereid compile` has them.
std::vector<kernel::KernelRequest> limit_requests(const model::ModelConfig& config,
                                                  const std::string& target);
std::vector<kernel::KernelRequest> limit_requests(DType dot_dtype, const std::string& target);

// Of as many devices of a kind.
Limits of_devices(Limits limits, std::size_t n_devices);

// The best of a few runs each. `stream_bytes` says what is read as a whole by the work that is to
// be compared: 30 MB may come from a cache, 15 GB may not. At most a quarter of the free memory
// and 4 GiB are used.
Limits measure_limits(device::Device& device, const model::ModelConfig& config,
                      const Options& options, std::size_t stream_bytes);
// The same of no model: products of this type, by kernels of a bundle that is found so.
Limits measure_limits(device::Device& device, DType dot_dtype, const kernel::BundleOptions& bundles,
                      std::size_t stream_bytes);

}  // namespace nereid::measure
