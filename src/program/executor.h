// Goal: plans on one device: a bundle's functions, each loaded once; the memory that all plans
// share, activations and counters; launches bound to addresses. Whatever is planned, a model's step
// or a graph of a user's, runs by it.
// Non-goal: where weights, states and inputs lie: who runs the plan says so.
#pragma once

#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "kernel/bundle.h"
#include "program/bind.h"
#include "program/launch_plan.h"

namespace nereid::program {

class Executor {
 public:
  explicit Executor(device::Device& device) : device_(device) {}

  // Once, before all that follows.
  void use(kernel::Bundle bundle) { bundle_.emplace(std::move(bundle)); }
  bool has_bundle() const { return bundle_.has_value(); }
  kernel::Bundle& bundle() { return *bundle_; }

  const kernel::Variant& variant_of(const PlannedLaunch& launch) const;
  const device::Function* load(const kernel::Variant& variant);
  // The first arena that is large enough; made where none is. Activations live for a step: all
  // plans use the same bytes, but one that needs more than those before has its own.
  device::Address arena(std::size_t bytes);
  std::size_t arena_bytes() const;  // of all

  // Of a value that is an input, a weight or a state.
  using Place = std::function<device::Address(const graph::Value& value)>;
  // Of all that a plan's launches read and write, and what its graph returns.
  Addresses addresses_of(const LaunchPlan& plan, const Place& place);
  std::vector<BoundLaunch> bind(const LaunchPlan& plan, const Addresses& addresses);

  // Counters are zero between launches, but not where one was cut short.
  void reset_counters();

 private:
  device::Address at_least(std::vector<device::Buffer>& buffers, std::size_t bytes,
                           const char* what);

  device::Device& device_;
  std::optional<kernel::Bundle> bundle_;
  std::unordered_map<const kernel::Variant*, const device::Function*> functions_;
  std::vector<device::Buffer> arenas_, counters_;
};

}  // namespace nereid::program
