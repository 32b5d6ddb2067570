// Goal: which kernel computes a node for a class of steps, and where each of its arguments comes
// from: a look-up in the kernels' Specs, the same for every operation.
// Non-goal: addresses (Program), measuring tile sizes (tuning).
// Rejected: a function an operation. What a kernel takes is written where its parameters are, in
// its Spec, so that a kernel more is a file more.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/ir.h"
#include "graph/sizes.h"
#include "kernel/request.h"
#include "kernel/spec.h"
#include "kernel/tuning.h"

namespace nereid::program {

// What the planner reads besides the graph: the program's own tables.
struct KernelTables {
  kernel::SpecTable specs;
  kernel::TuningTable tuning;
  // Measured choices for one target, or for all where none is named; none if not `is_tuned`.
  static KernelTables builtin(bool is_tuned = true, std::string_view target = {});
};

// The steps that a launch serves: at most so large, on this target.
struct Bounds {
  graph::Sizes largest;
  bool is_decode = false;  // all sequences decode
  std::string target = "cpu";
  bool is_uneven = false;            // a sequence that decodes is long for its share of a machine
  std::string attention = {};        // the design asked for (attention_designs.h), if any
  bool multiplies_bytes = true;      // Settings
  bool has_fp8_activations = false;  // Settings
};

// The variant of a kernel that equal uses share, and its name in a bundle.
struct Choice {
  kernel::KernelRequest request;
  std::string key;
};

// A node as one launch. Parameters point into the Spec.
struct PlannedLaunch {
  std::size_t node = 0;  // index in the graph
  const kernel::Spec* spec = nullptr;
  std::shared_ptr<const Choice> choice;
  std::vector<std::pair<const kernel::Param*, graph::ValueId>> pointers;  // kNoValue: null
  std::vector<std::pair<const kernel::Param*, graph::Dim>> sizes;         // in elements
  std::vector<std::pair<const kernel::Param*, double>> scalars;
  std::vector<std::pair<const kernel::Param*, std::int64_t>> constexprs;  // those that the op gives
  std::vector<std::pair<const kernel::Param*, std::string>> functions;    // texts, none empty

  // Nothing where the kernel has no size of that name.
  std::optional<graph::Dim> size_of(std::string_view name) const;
  // The value that the parameter takes; kNoValue where there is none.
  graph::ValueId value_of(std::string_view param) const;
  // An expression of the Spec (grid, bytes, flops, shapes) for a step of these sizes.
  std::int64_t evaluate(const kernel::Expression& expression, const graph::Graph& graph,
                        const graph::Sizes& sizes) const;
  // Whether such a step has nothing for it: it is not launched.
  bool is_empty(const graph::Graph& graph, const graph::Sizes& sizes) const;
  // Of a pointer parameter, as its Spec's shape says.
  std::size_t bytes_of(const kernel::Param& param, const graph::Graph& graph,
                       const graph::Sizes& sizes) const;
};

// Whether some kernel computes the node for such steps; a fused node that has none is to be taken
// apart.
bool has_kernel(const graph::Graph& graph, const graph::Node& node, const Bounds& bounds,
                const kernel::SpecTable& specs);

// Nodes that no kernel computes for such steps are taken apart until each has one; what then lies
// side by side is clustered, unless `skip` names that pass. Attention beside prompts is split.
graph::Graph legalise(const graph::Graph& graph, const Bounds& bounds,
                      const kernel::SpecTable& specs, const std::set<std::string>& skip = {});

// What a choice of tile sizes may depend on.
kernel::Problem problem_of(const graph::Graph& graph, const PlannedLaunch& launch,
                           const Bounds& bounds);

// What the nodes of a graph launch, in order; views and layouts nothing. Equal nodes (layers
// repeat) are chosen for once. An Error names a node that no kernel computes.
std::vector<PlannedLaunch> lower(const graph::Graph& graph, const Bounds& bounds,
                                 const KernelTables& tables);

}  // namespace nereid::program
