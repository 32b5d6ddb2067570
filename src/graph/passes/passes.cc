#include "graph/passes/passes.h"

#include <algorithm>
#include <chrono>
#include <ranges>

#include "base/error.h"

namespace nereid::graph {

namespace passes {
#define GRAPH_PASS(name, summary) Graph name(const Graph& graph);
#define GRAPH_FUSION(name, summary) \
  GRAPH_PASS(name, summary)         \
  Undone undo_##name(const Uses& uses, const Node& node, Rewrite& rewrite);
#define GRAPH_CHOICE(name, summary) \
  GRAPH_FUSION(name, summary)       \
  std::vector<std::string> reasons_##name(const Graph& graph);
#include "graph/passes/passes.def"
#undef GRAPH_PASS
#undef GRAPH_FUSION
#undef GRAPH_CHOICE
}  // namespace passes

namespace {

passes::Undone undone(const passes::Uses& uses, const Node& node, passes::Rewrite& rewrite,
                      std::string_view first) {
  for (const auto& row : pass_table())
    if (row.name == first)
      if (auto nodes = row.undo(uses, node, rewrite)) return nodes;
  for (const auto& row : pass_table() | std::views::reverse)
    if (row.undo != nullptr)
      if (auto nodes = row.undo(uses, node, rewrite)) return nodes;
  return std::nullopt;
}

// Every node that is one of `which`, one level down; whether there was any.
template <typename Which, typename First>
bool take_apart(Graph& graph, const Which& which, const First& first) {
  const passes::Uses uses(graph);
  passes::Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    if (!which(node)) continue;
    if (auto nodes = undone(uses, node, rewrite, first(node)))
      rewrite.replace(node, std::move(*nodes));
  }
  if (rewrite.is_empty()) return false;
  graph = rewrite.apply();
  return true;
}

}  // namespace

const std::vector<PassRow>& pass_table() {
  static const std::vector<PassRow> table{
#define GRAPH_PASS(name, summary) {#name, summary, passes::name, nullptr, nullptr},
#define GRAPH_FUSION(name, summary) {#name, summary, passes::name, passes::undo_##name, nullptr},
#define GRAPH_CHOICE(name, summary) \
  {#name, summary, passes::name, passes::undo_##name, passes::reasons_##name},
#include "graph/passes/passes.def"
#undef GRAPH_PASS
#undef GRAPH_FUSION
#undef GRAPH_CHOICE
  };
  return table;
}

void check_pass_names(const std::set<std::string>& names) {
  for (const auto& name : names)
    if (std::none_of(pass_table().begin(), pass_table().end(),
                     [&](const PassRow& row) { return row.name == name; })) {
      std::string known;
      for (const auto& row : pass_table())
        known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
      throw Error("there is no pass \"{}\"; expected one of {}", name, known);
    }
}

Graph run_passes(const Graph& graph, const PassOptions& options) {
  check_pass_names(options.skip);
  Graph result = graph;
  for (const auto& row : pass_table()) {
    if (options.skip.contains(std::string(row.name))) continue;
    const auto start = std::chrono::steady_clock::now();
    auto after = row.run(result);
    verify(after);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    if (options.observe) options.observe({row, result, after, time.count()});
    result = std::move(after);
  }
  return result;
}

std::string describe(const PassReport& report) {
  auto text = fmt::format("# after {} ({:.3f} ms): {}\n", report.row.name, report.milliseconds,
                          report.row.summary);
  if (report.row.reasons != nullptr) {
    // Layers are alike: a choice is shown once, with the number of times it was made.
    const auto reasons = report.row.reasons(report.before);
    for (auto it = reasons.begin(); it != reasons.end(); ++it)
      if (std::find(reasons.begin(), it, *it) == it)
        text += fmt::format("# {}x {}\n", std::count(it, reasons.end(), *it), *it);
  }
  return text + print(report.after);
}

Graph decompose(const Graph& graph) {
  Graph result = graph;
  while (take_apart(
      result, [](const Node&) { return true; }, [](const Node&) { return ""; })) {
  }
  return passes::canonical(result);
}

Graph take_apart(const Graph& graph, const IsOne& which, const NameOf& first,
                 const std::set<std::string>& skip) {
  const bool is_clustering = !skip.contains("fuse_pointwise");
  Graph result = graph;
  // Clusters too: with what is taken apart beside them they may become larger ones.
  while (take_apart(
      result,
      [&](const Node& node) {
        return which(result, node) || (is_clustering && node.op == Op::cluster);
      },
      [&](const Node& node) { return first(result, node); })) {
  }
  result = passes::canonical(result);
  return is_clustering ? passes::fuse_pointwise(result) : result;
}

}  // namespace nereid::graph
