// Goal: a graph as launches on one device: made once for a class of steps, run for each step by
// filling in its sizes.
// Non-goal: deciding what a step holds (sched), owning memory (the runner).
// Rejected: interpreting the graph in each step: look-ups by name and allocation in the hottest
// host loop.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "graph/ir.h"
#include "graph/lower.h"
#include "graph/memory_plan.h"
#include "kernel/bundle.h"
#include "kernel/launch.h"
#include "kernel/request.h"

namespace nereid::graph {

// What the planner reads besides the graph: the program's own tables.
struct KernelTables {
  const kernel::SpecTable& specs;
  const kernel::TuningTable& tuning;
};

struct PlannedLaunch {
  std::size_t node;  // index in the graph
  KernelCall call;
  kernel::KernelRequest request;
  std::string why;  // of the choice of tile sizes
};

// What a choice of tile sizes may depend on.
kernel::Problem problem_of(const Graph& graph, const KernelCall& call, const kernel::Spec& spec,
                           const StepClass& steps);

// Pure: what a step of this class launches on `target`, in order.
std::vector<PlannedLaunch> plan_launches(const Graph& graph, const StepClass& steps,
                                         std::string_view target, const KernelTables& tables);

class Plan {
 public:
  using AddressOf = std::function<device::Address(ValueId)>;

  // Every request must be in the bundle. Loads what the device has not loaded yet through `load`.
  using Load = std::function<const device::Function*(const kernel::Variant&)>;
  Plan(const std::vector<PlannedLaunch>& launches, const kernel::Bundle& bundle, const Load& load,
       const AddressOf& address_of);

  // Queues every launch. Allocates nothing.
  void run(device::Device& device, const SymbolValues& sizes);

  // The same, one launch after the other: `after` gets the node of each once it is done.
  void run_stepwise(device::Device& device, const SymbolValues& sizes,
                    const std::function<void(std::size_t node)>& after);

  // The launches of the last run, one a line: kernel, grid, object. For debugging.
  std::string trace() const;

 private:
  std::vector<kernel::LaunchTemplate> launches_;
  std::vector<const kernel::Variant*> variants_;  // of each launch
  std::vector<std::size_t> nodes_;                // of each launch
};

}  // namespace nereid::graph
