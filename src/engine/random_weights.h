// Goal: weights made on the device from nothing, for speed work without a checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "device/device.h"
#include "graph/plan.h"
#include "kernel/bundle.h"
#include "kernel/launch.h"

namespace nereid::engine {

class RandomWeights {
 public:
  RandomWeights(device::Device& device, kernel::Bundle& bundle, graph::KernelTables tables)
      : device_(device), bundle_(bundle), tables_(tables) {}

  // The variant that fills this type; part of what a model without weights asks the compiler for.
  static kernel::KernelRequest request(DType dtype, const std::string& target,
                                       const graph::KernelTables& tables);

  // Queues the fill of `n_elements` at `address`: normal with this standard deviation, the same for
  // the same seed.
  void operator()(device::Address address, DType dtype, std::int64_t n_elements, std::uint64_t seed,
                  double standard_deviation);

 private:
  kernel::LaunchTemplate& launch_of(DType dtype, double standard_deviation);

  device::Device& device_;
  kernel::Bundle& bundle_;
  graph::KernelTables tables_;
  std::map<std::pair<DType, double>, kernel::LaunchTemplate> launches_;
};

}  // namespace nereid::engine
