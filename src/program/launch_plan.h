// Goal: all that a graph launches for steps of one kind: its launches in order, and where its
// activations and their scratch lie.
// Non-goal: which graph that is (planner.h, graph_planner.h), addresses (executor.h).
#pragma once

#include <cstddef>
#include <vector>

#include "graph/ir.h"
#include "graph/sizes.h"
#include "program/lower.h"
#include "program/memory.h"

namespace nereid::program {

struct LaunchPlan {
  graph::Graph graph;
  std::vector<PlannedLaunch> launches;  // in order
  graph::Sizes largest;                 // of any step that it serves
  Memory memory;
  std::size_t counter_bytes = 0;  // of memory that is zero between launches, which all share
};

// `bounds`: what its kernels are made for, at least `largest`.
LaunchPlan make_launch_plan(graph::Graph graph, const Bounds& bounds, const graph::Sizes& largest,
                            const KernelTables& tables);

}  // namespace nereid::program
