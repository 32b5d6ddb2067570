// Goal: what passes need to change a graph: who computes and who reads a value, and replacing nodes
// by others while the rest is copied.
// Non-goal: deciding what to replace.
// Rejected: editing a graph in place. A pass reads one graph and writes another, so that no pass
// sees half of another's work and ids stay in the order of the text.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "graph/ir.h"

namespace nereid::graph::passes {

using Nodes = std::vector<Node>;
// What a fused node means as smaller ones, one level down; nothing for other nodes.
using Undone = std::optional<Nodes>;

class Uses {
 public:
  explicit Uses(const Graph& graph);

  // The node that computes the value, if it is of this op; else nullptr.
  const Node* producer(ValueId id, Op op) const;
  // What the graph returns has a reader more.
  std::size_t n_readers(ValueId id) const { return readers_[static_cast<std::size_t>(id)].size(); }
  const std::vector<std::size_t>& readers(ValueId id) const {
    return readers_[static_cast<std::size_t>(id)];
  }
  const Graph& graph() const { return graph_; }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  const Graph& graph_;
  std::vector<std::size_t> producer_;              // by value: index of a node, or kNone
  std::vector<std::vector<std::size_t>> readers_;  // by value; the returned graph reads as kNone
};

// Collected while reading a graph; apply() writes the other.
class Rewrite {
 public:
  explicit Rewrite(const Graph& graph) : graph_(graph) {}

  // A stand-in for a value that new nodes compute and read. Without a name it gets a number.
  ValueId fresh(std::string name = {});
  // In place of a node: others, in terms of the old graph's values and of stand-ins. The node's
  // results must be computed by them, or read by no one afterwards.
  void replace(const Node& node, Nodes nodes);
  void remove(const Node& node) { replace(node, {}); }
  bool is_empty() const { return replaced_.empty(); }

  Graph apply() const;

 private:
  friend class Writer;
  const Graph& graph_;
  std::vector<std::string> fresh_names_;
  std::map<std::size_t, Nodes> replaced_;
};

// Those that a result is, written in place or seen in another way.
std::vector<ValueId> operands_in_place(const Node& node);

// A linear that nothing is fused into: x, weight and perhaps a bias.
bool is_plain_linear(const Node& node);

// The same graph, written in one way: values in the order of their first use, unread nodes left
// out, results numbered. Graphs that mean the same node by node are then the same text.
Graph canonical(const Graph& graph);

}  // namespace nereid::graph::passes
