#include "graph/passes/passes.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"

namespace nereid::graph {

namespace passes {
#define GRAPH_PASS(name, summary) Graph name(const Graph& graph);
#include "graph/passes/passes.def"
#undef GRAPH_PASS
}  // namespace passes

const std::vector<PassRow>& pass_table() {
  static const std::vector<PassRow> table{
#define GRAPH_PASS(name, summary) {#name, summary, passes::name},
#include "graph/passes/passes.def"
#undef GRAPH_PASS
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
    result = row.run(result);
    verify(result);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    if (options.observe) options.observe(row, result, time.count());
  }
  return result;
}

}  // namespace nereid::graph
