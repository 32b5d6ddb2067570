// Goal: a planned launch on addresses: ready to run.
// Non-goal: choosing the addresses.
#pragma once

#include <vector>

#include "program/launch.h"
#include "program/lower.h"
#include "program/memory.h"

namespace nereid::program {

// Where everything lies that a plan's launches read and write.
struct Addresses {
  std::vector<device::Address> values;  // by ValueId
  device::Address arena = 0;
  std::vector<Scratch> scratch;  // in the arena
  device::Address counters = 0;  // zero between launches; all launches use the same
};

// Variant and function outlive the result.
BoundLaunch bind(const PlannedLaunch& launch, const kernel::Variant& variant,
                 const device::Function* function, const Addresses& addresses);

}  // namespace nereid::program
