// Goal: which operations work on rows, each result row on one row of each operand, and what each
// computes as an expression: what a generated kernel and its reference are written from.
// Non-goal: where an operand's row lies (row_kernel.h).
// Rejected: a kernel text for each operation. Fusing them would be pasting.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/expression/formula.h"
#include "graph/ir.h"

namespace nereid::graph {

// What they compute in a node that holds it as text: map, cluster (cluster.h).
inline constexpr std::string_view kBody = "body";

bool is_row_op(Op op);

// What operands and results are, for names in a kernel: "x", "weight"; "normed".
std::vector<std::string> operand_names(const Node& node);
std::vector<std::string> result_names(const Node& node);

// What it computes of its operands; attributes are numbers in it.
expression::Body body_of(const Node& node);
expression::Formula formula_of(const Node& node);

}  // namespace nereid::graph
