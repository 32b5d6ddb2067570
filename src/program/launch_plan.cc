#include "program/launch_plan.h"

#include <algorithm>
#include <utility>

namespace nereid::program {

LaunchPlan make_launch_plan(graph::Graph graph, const Bounds& bounds, const graph::Sizes& largest,
                            const KernelTables& tables) {
  LaunchPlan plan{.graph = std::move(graph), .launches = {}, .largest = largest, .memory = {}};
  plan.launches = lower(plan.graph, bounds, tables);
  std::vector<Scratch> scratch;
  for (const auto& launch : plan.launches)
    for (const auto& param : launch.spec->params) {
      if (param.of.kind == kernel::ArgumentSource::Kind::scratch)
        scratch.push_back({launch.node, launch.bytes_of(param, plan.graph, largest)});
      if (param.of.kind == kernel::ArgumentSource::Kind::counter)
        plan.counter_bytes =
            std::max(plan.counter_bytes, launch.bytes_of(param, plan.graph, largest));
    }
  plan.memory = plan_memory(plan.graph, largest, std::move(scratch));
  return plan;
}

}  // namespace nereid::program
