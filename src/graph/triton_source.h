// Goal: a kernel for a cluster, written as a person would: Triton source with the formula, and its
// Spec, in the form of kernels/*.py.
// Non-goal: the arithmetic (row_kernel.h), choosing what to fuse (passes/fuse_pointwise.cc),
// compiling (aot/).
// Rejected: a source for each node. Names and numbers come from the cluster's body alone, so that
// all layers share one kernel.
#pragma once

#include <memory>

#include "graph/ir.h"
#include "kernel/generated.h"

namespace nereid::graph {

// Rows that are reduced lie in registers whole, of at most so many columns; longer ones are read
// in parts, once more for each reduction of what was reduced.
inline constexpr std::int64_t kMaxReducedCols = 16384;

// Whether one kernel can compute the body (cluster.h): its values are rows of one width, and its
// operands are no more than a launch takes.
bool can_generate(const Graph& body);

// Parameters: NAME_ptr of results and operands as with_plain_names calls them; n_rows; n_cols;
// NAME_stride of every operand that is a matrix.
std::shared_ptr<const kernel::GeneratedKernel> generate_kernel(const Graph& body);

}  // namespace nereid::graph
