// Goal: what each fused op means, as smaller ops: the reference in tests, and what runs where a
// target or a step has no kernel for it.
// Non-goal: deciding when (passes.h).
#pragma once

#include <optional>
#include <vector>

#include "graph/passes/rewrite.h"

namespace nereid::graph::passes {

// One level down; nothing for an op that is not fused.
std::optional<std::vector<Node>> decomposition(const Graph& graph, const Node& node,
                                               Rewrite& rewrite);

}  // namespace nereid::graph::passes
