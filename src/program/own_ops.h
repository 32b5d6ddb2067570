// Goal: users' operations from their files: rows for who reads graphs, kernels for who lowers them,
// each held against the other when they are registered, so that no node meets a kernel that leaves
// a result unwritten or asks for what the row has not.
// Non-goal: reading a file (kernel/own_op.h), what a row means (graph/ops.h).
#pragma once

#include <filesystem>
#include <span>

#include "graph/ops.h"
#include "kernel/own_op.h"
#include "kernel/spec.h"

namespace nereid::program {

// An Error names file and line of what does not fit.
void check_own_op(const kernel::OwnOp& op, const graph::OpRow& row);

// Adds the operations of these files to both tables.
void add_own_ops(std::span<const std::filesystem::path> files,
                 const std::filesystem::path& bundle_dir, graph::OpTable& ops,
                 kernel::SpecTable& specs);

}  // namespace nereid::program
