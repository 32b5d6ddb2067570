// Goal: a graph becomes one of fewer, larger ops that means the same (docs/compiler.md).
// Non-goal: what a target or a step can run: legalise() decides that afterwards, and takes apart
// what has no kernel.
// Rejected: one pass that does it all. Each is a file with both directions, can be left out by
// name, and is seen by itself (`nereid inspect plan --passes`).
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "graph/ir.h"
#include "graph/passes/rewrite.h"

namespace nereid::graph {

struct PassRow {
  std::string_view name;
  std::string_view summary;
  Graph (*run)(const Graph&);
  // What a node that it made means (rewrite.h); null where it makes none.
  passes::Undone (*undo)(const passes::Uses&, const Node&, passes::Rewrite&);
  // Why it fused what it did, and what it left, of the graph that it reads; null where it always
  // fuses.
  std::vector<std::string> (*reasons)(const Graph&);
};

// In the order in which they run.
const std::vector<PassRow>& pass_table();

struct PassReport {
  const PassRow& row;
  const Graph& before;
  const Graph& after;
  double milliseconds;
};

// "# after NAME (...): ...", a line for each reason, the graph.
std::string describe(const PassReport& report);

struct PassOptions {
  std::set<std::string> skip;                      // names; one that is no pass is an Error
  std::function<void(const PassReport&)> observe;  // called after each pass that ran
};

// An Error where one of the names is no pass.
void check_pass_names(const std::set<std::string>& names);

// Verified after each pass.
Graph run_passes(const Graph& graph, const PassOptions& options = {});

// One op taken apart, as often as possible: the graph that fusing started from, written
// canonically.
Graph decompose(const Graph& graph);

// Nodes that are one of `which` are taken apart until none is; what then lies side by side is
// clustered, unless `skip` names that pass. What was fused last is taken apart first, but for a
// node of which `first` names another pass.
using IsOne = std::function<bool(const Graph&, const Node&)>;
using NameOf = std::function<std::string_view(const Graph&, const Node&)>;
Graph take_apart(const Graph& graph, const IsOne& which, const NameOf& first,
                 const std::set<std::string>& skip = {});

// Linears of int8 and 4-bit weights with their rows as integers, and those of e4m3 with theirs as
// such, where `has_kernel` is true of what then computes them (docs/quantization.md).
Graph quantise_rows(const Graph& graph, const IsOne& has_kernel);

// For steps that hold prompts and sequences that decode: attention of all rows as two launches.
Graph split_attention(const Graph& graph);

}  // namespace nereid::graph
