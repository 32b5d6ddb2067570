// Goal: which kernel a node becomes, and what each of its parameters is: the one place where op and
// kernel meet.
// Non-goal: tile sizes (tuning), addresses (Plan).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/ir.h"
#include "kernel/generated.h"

namespace nereid::graph {

// Rows up to which a linear reads weights once, straight to registers, and the variants made for
// it; above, a tiled product reuses them.
inline constexpr std::array<std::int64_t, 4> kGemvRows{1, 2, 4, 8};
// Rows that fit one tile of a matrix unit: weights are still read once, where there are such units.
inline constexpr std::array<std::int64_t, 3> kSkinnyRows{16, 32, 64};
// Rows up to which tiles of their own may pay: fewer rows fill a device with smaller tiles only.
inline constexpr std::array<std::int64_t, 3> kTiledRows{128, 256, 512};

// The steps a plan serves: at most so many tokens and logit rows, and whether every sequence brings
// just one token.
struct StepClass {
  std::int64_t max_tokens = 1;
  std::int64_t max_sequences = 1;
  std::int64_t max_logits = 1;
  bool is_decode = false;
  std::string_view family = "cpu";  // of targets: cpu, cuda, hip
};

// A pointer that is kNoValue is a null address: an operand the variant does not read.
struct KernelCall {
  std::string kernel;
  std::vector<std::pair<std::string, ValueId>> pointers;
  std::vector<std::pair<std::string, Dim>> sizes;  // sizes and strides, in elements
  std::vector<std::pair<std::string, double>> scalars;
  std::vector<std::pair<std::string, std::int64_t>> constexprs;   // those the planner gives
  std::shared_ptr<const kernel::GeneratedKernel> generated = {};  // null: one of kernels/
};

// Whether some kernel computes the node for steps of this class; a fused op that has none is to be
// taken apart.
bool has_kernel(const Graph& graph, const Node& node, const StepClass& steps);

// Nothing for a view or a layout. An Error where no kernel computes the node.
std::optional<KernelCall> lower(const Graph& graph, const Node& node, const StepClass& steps);

}  // namespace nereid::graph
