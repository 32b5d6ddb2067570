// Goal: memory filled with random numbers by a kernel: weights for speed work without a checkpoint.
// Non-goal: sampling tokens.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "device/device.h"
#include "kernel/bundle.h"
#include "program/lower.h"

namespace nereid::program {

// The variant that fills this type; part of what a model without weights asks the compiler for.
kernel::KernelRequest fill_request(DType dtype, const std::string& target,
                                   const KernelTables& tables);

class RandomFill {
 public:
  // All outlive it. The bundle has the variant of each type that is filled.
  RandomFill(device::Device& device, kernel::Bundle& bundle, const KernelTables& tables)
      : device_(device), bundle_(bundle), tables_(tables) {}

  // Queues the fill of `n_elements` at `address`: normal with this standard deviation, the same for
  // the same seed.
  void operator()(device::Address address, DType dtype, std::int64_t n_elements, std::int64_t seed,
                  double standard_deviation);

 private:
  using Loaded = std::pair<const kernel::Variant*, const device::Function*>;
  device::Device& device_;
  kernel::Bundle& bundle_;
  const KernelTables& tables_;
  std::map<DType, Loaded> loaded_;
};

}  // namespace nereid::program
