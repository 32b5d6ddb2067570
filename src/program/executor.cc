#include "program/executor.h"

#include "base/error.h"

namespace nereid::program {

const kernel::Variant& Executor::variant_of(const PlannedLaunch& launch) const {
  const auto* variant = bundle_->find(launch.choice->key);
  NEREID_CHECK(variant != nullptr, "the bundle lacks {}", launch.choice->key);
  return *variant;
}

const device::Function* Executor::load(const kernel::Variant& variant) {
  const device::Function*& function = functions_[&variant];
  if (function == nullptr) function = device_.load(bundle_->image(variant));
  return function;
}

device::Address Executor::at_least(std::vector<device::Buffer>& buffers, std::size_t bytes,
                                   const char* what) {
  for (const auto& buffer : buffers)
    if (buffer.size_bytes() >= bytes) return buffer.address();
  buffers.push_back(device_.allocate(bytes, what));
  return buffers.back().address();
}

device::Address Executor::arena(std::size_t bytes) {
  return at_least(arenas_, bytes, "activations");
}

std::size_t Executor::arena_bytes() const {
  std::size_t n_bytes = 0;
  for (const auto& arena : arenas_) n_bytes += arena.size_bytes();
  return n_bytes;
}

Addresses Executor::addresses_of(const LaunchPlan& plan, const Place& place) {
  Addresses all{
      .values = {}, .arena = arena(plan.memory.arena_bytes), .scratch = plan.memory.scratch};
  if (plan.counter_bytes > 0) {
    const auto n_before = counters_.size();
    all.counters = at_least(counters_, plan.counter_bytes, "counters");
    if (counters_.size() > n_before) device_.fill_zero(all.counters, plan.counter_bytes);
  }
  all.values.resize(plan.graph.values.size());
  const auto set = [&](graph::ValueId id) {
    const auto index = static_cast<std::size_t>(id);
    if (const auto offset = plan.memory.offsets[index]; offset != Memory::kNotInArena) {
      all.values[index] = all.arena + offset;
      return;
    }
    // In place, on a state or an input: its bytes are that one's.
    const auto [root, offset] = storage_place(plan.graph, id);
    const auto& value = plan.graph.value(root);
    NEREID_CHECK(value.kind != graph::ValueKind::intermediate, "%{} lies nowhere", value.name);
    all.values[index] = place(value) + offset;
  };
  for (const auto& launch : plan.launches)
    for (const auto& [param, id] : launch.pointers)
      if (id != graph::kNoValue) set(id);
  for (const auto id : plan.graph.outputs) set(id);
  return all;
}

std::vector<BoundLaunch> Executor::bind(const LaunchPlan& plan, const Addresses& addresses) {
  std::vector<BoundLaunch> launches;
  launches.reserve(plan.launches.size());
  for (const auto& launch : plan.launches) {
    const auto& variant = variant_of(launch);
    launches.push_back(program::bind(launch, variant, load(variant), addresses));
  }
  return launches;
}

void Executor::reset_counters() {
  for (const auto& buffer : counters_) device_.fill_zero(buffer.address(), buffer.size_bytes());
}

}  // namespace nereid::program
