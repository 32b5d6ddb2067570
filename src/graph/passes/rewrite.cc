#include "graph/passes/rewrite.h"

#include <algorithm>
#include <cctype>
#include <unordered_map>

#include "base/error.h"

namespace nereid::graph::passes {

namespace {

// Stand-ins count down from here.
constexpr ValueId kFirstFresh = kNoValue - 1;

bool is_number(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
}

// Whether leaving the node out changes more than its results: it writes where a state lies.
bool writes_state(const Graph& graph, const Node& node) {
  return has_launch(node.row().op_class) &&
         std::ranges::any_of(operands_in_place(node),
                             [&](ValueId id) { return graph.value(id).kind == ValueKind::state; });
}

}  // namespace

std::vector<ValueId> operands_in_place(const Node& node) {
  std::vector<ValueId> operands;
  for (const auto& [result, operand] : node.row().aliases)
    if (node.inputs[operand] != kNoValue) operands.push_back(node.inputs[operand]);
  return operands;
}

Uses::Uses(const Graph& graph)
    : graph_(graph), producer_(graph.values.size(), kNone), readers_(graph.values.size()) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const auto id : graph.nodes[i].outputs) producer_[static_cast<std::size_t>(id)] = i;
    for (const auto id : graph.nodes[i].reads())
      readers_[static_cast<std::size_t>(id)].push_back(i);
  }
  for (const auto id : graph.outputs) readers_[static_cast<std::size_t>(id)].push_back(kNone);
}

const Node* Uses::producer(ValueId id, Op op) const {
  const auto i = producer_[static_cast<std::size_t>(id)];
  return i != kNone && graph_.nodes[i].op == op ? &graph_.nodes[i] : nullptr;
}

ValueId Rewrite::fresh(std::string name) {
  fresh_names_.push_back(std::move(name));
  return kFirstFresh - static_cast<ValueId>(fresh_names_.size() - 1);
}

void Rewrite::replace(const Node& node, Nodes nodes) {
  const auto index = static_cast<std::size_t>(&node - graph_.nodes.data());
  NEREID_CHECK(index < graph_.nodes.size(), "a node of another graph");
  const bool is_new = replaced_.emplace(index, std::move(nodes)).second;
  NEREID_CHECK(is_new, "node {} is replaced twice", index);
}

// Copies nodes from one graph to another, declaring values as they are first read.
class Writer {
 public:
  explicit Writer(const Rewrite& rewrite) : rewrite_(rewrite), old_(rewrite.graph_) {
    new_.name = old_.name;
    new_.sizes = old_.sizes;
  }

  Graph write_all() {
    for (std::size_t i = 0; i < old_.nodes.size(); ++i) {
      const auto it = rewrite_.replaced_.find(i);
      if (it == rewrite_.replaced_.end()) {
        write(old_.nodes[i]);
        continue;
      }
      for (const auto& node : it->second) write(node);
    }
    for (const auto id : old_.outputs) new_.outputs.push_back(map(id));
    return std::move(new_);
  }

 private:
  void write(Node node) {
    for (auto& id : node.inputs) id = map(id);
    std::vector<std::string> output_names;
    for (const auto id : node.outputs) output_names.push_back(name_of(id));
    const auto old_results = node.outputs;
    const auto results = new_.add_node(std::move(node), std::move(output_names));
    for (std::size_t i = 0; i < old_results.size(); ++i) ids_[old_results[i]] = results[i];
  }

  // Empty where the value is to be numbered.
  std::string name_of(ValueId id) const {
    if (id < 0) return rewrite_.fresh_names_[static_cast<std::size_t>(kFirstFresh - id)];
    const auto& name = old_.value(id).name;
    return is_number(name) ? "" : name;
  }

  ValueId map(ValueId id) {
    if (id == kNoValue) return id;
    if (const auto it = ids_.find(id); it != ids_.end()) return it->second;
    NEREID_CHECK(id >= 0, "a new node reads what no new node computes");
    const auto& value = old_.value(id);
    NEREID_CHECK(value.kind != ValueKind::intermediate, "%{} is read after it was replaced",
                 value.name);
    return ids_[id] = new_.add_value(value.kind, value.name, value.dtype, value.shape);
  }

  const Rewrite& rewrite_;
  const Graph& old_;
  Graph new_;
  std::unordered_map<ValueId, ValueId> ids_;  // old or stand-in, to new
};

Graph Rewrite::apply() const { return is_empty() ? graph_ : Writer(*this).write_all(); }

bool is_plain_linear(const Node& node) {
  return node.op == Op::linear && !node.has("norm") && !node.has("residual") &&
         node.text_attr("epilogue").empty();
}

Graph canonical(const Graph& graph) {
  std::vector<bool> is_read(graph.values.size(), false);
  for (const auto id : graph.outputs) is_read[static_cast<std::size_t>(id)] = true;
  Rewrite rewrite(graph);
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const bool is_live = writes_state(graph, *node) ||
                         std::any_of(node->outputs.begin(), node->outputs.end(), [&](ValueId id) {
                           return is_read[static_cast<std::size_t>(id)];
                         });
    if (!is_live) {
      rewrite.remove(*node);
      continue;
    }
    for (const auto id : node->reads()) is_read[static_cast<std::size_t>(id)] = true;
  }
  // Written anew even where nothing is left out: for the order.
  return Writer(rewrite).write_all();
}

}  // namespace nereid::graph::passes
