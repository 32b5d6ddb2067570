// Goal: several operations on the same rows as one node, which one generated kernel computes. Its
// attribute "body" says what it means, in terms of its operands and of nothing else, so that layers
// with other weights have the same text:
//   body = "added = add x, y {alpha = 1.0}; normed = rms_norm added, weight; return added, normed"
// Non-goal: which operations become a cluster (passes/fuse_pointwise.cc), its kernel
// (triton_source.h).
// Rejected: a graph within the graph. Text is compared, hashed and printed without further code.
#pragma once

#include <string>
#include <string_view>

#include "graph/ir.h"
#include "graph/row_ops.h"

namespace nereid::graph {

// The body as a graph of its own: value i is operand i, its outputs are the results.
Graph cluster_body(const Graph& graph, const Node& cluster);
std::string body_text(const Graph& body);

// Whether its kernel is written for it: a cluster, or one row operation given as an expression.
bool is_generated(Op op);
// The body that the kernel of such a node is written from.
Graph generated_body(const Graph& graph, const Node& node);

// Values named by what they are (an operand by the role in which it is read first, a result by its
// op): bodies that mean the same are then the same text. Identifiers of Python too, of which none
// begins as another followed by `_` does: a kernel may make names of them.
Graph with_plain_names(Graph body);

}  // namespace nereid::graph
