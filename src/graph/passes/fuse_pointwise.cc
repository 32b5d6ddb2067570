//   %s = add %x, %y         <=>   %s, %n = cluster %x, %y, %g {body =
//   %n = rms_norm %s, %g            "added = add x, y; normed = rms_norm added, weight; return
//   ..."}
#include <algorithm>
#include <map>
#include <optional>

#include "graph/cluster.h"
#include "graph/passes/cluster_cost.h"
#include "graph/passes/rewrite.h"
#include "graph/triton_source.h"

namespace nereid::graph::passes {

namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

// Finds the clusters of a graph. Each is computed where one of its nodes stands: after all that it
// reads and before all that read it, other clusters included.
class Clusters {
 public:
  explicit Clusters(const Graph& graph)
      : graph_(graph), uses_(graph), computed_by_(graph.values.size(), kNone) {
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      at_.push_back(i);
      members_.push_back({i});
      for (const auto id : graph.nodes[i].outputs) computed_by_[static_cast<std::size_t>(id)] = i;
    }
    for (std::size_t i = 0; i < graph.nodes.size(); ++i)
      if (may_join(i))
        for (const auto id : graph.nodes[i].reads()) join(i, computed_by(id));
  }

  // The cluster that is computed in the place of this node; its nodes in order, one where there is
  // nothing to join.
  const std::vector<std::size_t>& members(std::size_t place) const { return members_[place]; }
  bool is_moved(std::size_t node) const { return at_[node] != node; }
  // Of what was joined and of what was left apart, a line each.
  const std::vector<std::string>& reasons() const { return reasons_; }

  struct Made {
    Node node;
    Graph body;
  };
  Made make(const std::vector<std::size_t>& nodes) const {
    std::map<ValueId, ValueId> ids;  // in the graph, in the body
    Made made{{Op::cluster, {}}, {}};
    for (const auto i : nodes)
      for (const auto id : graph_.nodes[i].reads()) {
        if (ids.contains(id) || std::ranges::binary_search(nodes, computed_by(id))) continue;
        const auto& value = graph_.value(id);
        made.node.inputs.push_back(id);
        ids[id] = made.body.add_value(ValueKind::input, "", value.dtype, value.shape);
      }
    for (const auto i : nodes) {
      Node node = graph_.nodes[i];
      for (auto& input : node.inputs)
        if (input != kNoValue) input = ids.at(input);
      const auto results = made.body.add_node(std::move(node));
      for (std::size_t j = 0; j < results.size(); ++j) {
        const auto id = graph_.nodes[i].outputs[j];
        ids[id] = results[j];
        const auto& readers = uses_.readers(id);
        const bool is_read_outside =
            readers.empty() || std::ranges::any_of(readers, [&](auto reader) {
              return !std::ranges::binary_search(nodes, reader);
            });
        if (!is_read_outside) continue;
        made.node.outputs.push_back(id);
        made.body.outputs.push_back(results[j]);
      }
    }
    made.body = with_plain_names(std::move(made.body));
    made.node.set_attr(kBody, body_text(made.body));
    return made;
  }

 private:
  std::size_t computed_by(ValueId id) const { return computed_by_[static_cast<std::size_t>(id)]; }

  // States are written in place: what reads one stays where it is. Rows of a table that ranks share
  // out are summed before anything is made of them.
  bool may_join(std::size_t node) const {
    const auto& candidate = graph_.nodes[node];
    return is_row_op(candidate.op) &&
           (candidate.op != Op::gather_rows || candidate.int_attr("first") == 0) &&
           std::ranges::none_of(graph_.nodes[node].reads(), [&](ValueId id) {
             return graph_.value(id).kind == ValueKind::state;
           });
  }

  // The node, and what it is with already, go together with the node that computes an operand.
  void join(std::size_t node, std::size_t producer) {
    if (producer == kNone || at_[node] == at_[producer] || !may_join(producer)) return;
    std::vector<std::size_t> together;
    std::ranges::merge(members_[at_[node]], members_[at_[producer]], std::back_inserter(together));
    const auto place = place_of(together);
    if (!place) return;
    const auto whole = make(together).body;
    if (!can_generate(whole)) return;
    const auto choice =
        choose_cluster(whole, make(members_[at_[producer]]).body, make(members_[at_[node]]).body);
    reasons_.push_back(choice.reason);
    if (!choice.pays) return;
    for (const auto emptied : {at_[node], at_[producer]}) members_[emptied].clear();
    for (const auto i : together) at_[i] = *place;
    members_[*place] = std::move(together);
  }

  std::optional<std::size_t> place_of(const std::vector<std::size_t>& nodes) const {
    std::size_t begin = 0;  // the first place after all that is read
    std::size_t end = kNone;
    for (const auto i : nodes) {
      for (const auto id : graph_.nodes[i].reads())
        if (const auto producer = computed_by(id);
            producer != kNone && !std::ranges::binary_search(nodes, producer))
          begin = std::max(begin, at_[producer] + 1);
      for (const auto id : graph_.nodes[i].outputs)
        for (const auto reader : uses_.readers(id))
          if (reader != kNone && !std::ranges::binary_search(nodes, reader))
            end = std::min(end, at_[reader]);
    }
    const auto place = std::ranges::lower_bound(nodes, begin);
    if (place == nodes.end() || *place >= end) return std::nullopt;
    return *place;
  }

  const Graph& graph_;
  const Uses uses_;
  std::vector<std::size_t> computed_by_;           // by value
  std::vector<std::size_t> at_;                    // by node: where it is computed
  std::vector<std::vector<std::size_t>> members_;  // by place, sorted
  std::vector<std::string> reasons_;
};

}  // namespace

std::vector<std::string> reasons_fuse_pointwise(const Graph& graph) {
  return Clusters(graph).reasons();
}

// A launch less for each node that joins another; one alone stays what it is.
Graph fuse_pointwise(const Graph& graph) {
  const Clusters clusters(graph);
  Rewrite rewrite(graph);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (clusters.members(i).size() > 1)
      rewrite.replace(graph.nodes[i], {clusters.make(clusters.members(i)).node});
    else if (clusters.is_moved(i))
      rewrite.remove(graph.nodes[i]);
  }
  return rewrite.apply();
}

Undone undo_fuse_pointwise(const Uses& uses, const Node& node, Rewrite& rewrite) {
  if (node.op != Op::cluster) return std::nullopt;
  const Graph body = cluster_body(uses.graph(), node);
  std::vector<ValueId> ids(body.values.size(), kNoValue);
  std::copy(node.inputs.begin(), node.inputs.end(), ids.begin());
  for (std::size_t i = 0; i < body.outputs.size(); ++i)
    ids[static_cast<std::size_t>(body.outputs[i])] = node.outputs[i];
  Nodes nodes;
  for (auto part : body.nodes) {
    for (auto& id : part.inputs)
      if (id != kNoValue) id = ids[static_cast<std::size_t>(id)];
    for (auto& id : part.outputs) {
      auto& result = ids[static_cast<std::size_t>(id)];
      if (result == kNoValue) result = rewrite.fresh();
      id = result;
    }
    nodes.push_back(std::move(part));
  }
  return nodes;
}

}  // namespace nereid::graph::passes
