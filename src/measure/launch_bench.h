// Goal: planned launches, each ready to run alone: on weights and keys that come from memory and
// not from a cache, all else as the runner lays it out. Non-goal: what to measure and what it says
// (kernel_bench.h, tuner.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "device/device.h"
#include "engine/random_weights.h"
#include "graph/plan.h"
#include "kernel/bundle.h"
#include "measure/bench_memory.h"
#include "measure/step_planner.h"

namespace nereid::measure {

class LaunchBench {
 public:
  // Launches come from the bundle, which has planner.fill_request() too. Planner and device outlive
  // this.
  LaunchBench(const StepPlanner& planner, device::Device& device, kernel::Bundle bundle);

  // More than any cache between memory and a kernel holds.
  static constexpr std::size_t kPoolBytes = std::size_t{256} << 20;

  device::Device& device() const { return device_; }

  struct Step {
    StepShape shape;
    engine::PlanKey key;
    graph::SymbolValues sizes;
    const graph::Graph* graph;
    BenchMemory memory;
  };
  Step make_step(const StepShape& shape, std::int64_t n_logits);

  // A launch as often as it takes to pass the pool once, or some hundred times; what takes long
  // less often: it finds no weights in a cache then either.
  struct Copies {
    std::function<void()> queue;
    std::size_t n = 0;
  };
  // The step must outlive it. An Error where the device cannot load the kernel.
  Copies copies_of(const Step& step, const graph::PlannedLaunch& launch);

 private:
  const device::Function* load(const kernel::Variant& variant);
  void fill(const device::Buffer& buffer);

  const StepPlanner& planner_;
  device::Device& device_;
  kernel::Bundle bundle_;
  engine::RandomWeights random_;
  std::map<const kernel::Variant*, const device::Function*> functions_;
  device::Buffer pool_;
};

}  // namespace nereid::measure
