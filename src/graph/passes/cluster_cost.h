// Goal: whether row operations as one kernel take less than as two: what is kept in registers and
// the launch that is left out, against reading and computing again.
// Non-goal: the time of a kernel on a device (src/measure).
// Rejected: fusing whatever fits. A long row is read once more for each reduction of what was
// reduced; with many operands in the same kernel that is more than the value between the two.
#pragma once

#include <cstdint>
#include <string>

#include "graph/ir.h"

namespace nereid::graph::passes {

// Of a kernel, for one row.
struct RowCost {
  std::int64_t bytes = 0;  // operands as often as they are read, and results
  std::int64_t flops = 0;
  int n_reads = 1;  // times that the kernel goes over the row
};

// The body of a cluster, or of one operation.
RowCost row_cost(const Graph& body);

struct ClusterChoice {
  bool pays = false;
  std::string reason;  // a line, with the numbers
};
// The two parts as the whole.
ClusterChoice choose_cluster(const Graph& whole, const Graph& first, const Graph& second);

}  // namespace nereid::graph::passes
