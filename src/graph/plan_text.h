// Goal: plans for people: each launch with kernel, grid, bytes, flops and what was chosen; what
// comes again is shown once with how often it stands, and why a choice was made is said once. Lines
// fit a terminal of 120 columns.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/plan.h"

namespace nereid::graph {

class PlanText {
 public:
  explicit PlanText(const KernelTables& tables) : tables_(tables) {}

  void add_line(std::string_view line);
  // Grids, bytes and flops are those of a step of these sizes.
  void add_launches(const Graph& graph, const std::vector<PlannedLaunch>& launches,
                    const SymbolValues& sizes);
  // The text, and the reasons that its launches name by number.
  std::string take();

 private:
  struct Row {
    std::string output;    // the value it makes: not a part of what must be equal to come again
    std::string launch;    // kernel, grid, bytes, flops
    std::string settings;  // tile sizes and the number of the reason
  };
  Row row_of(const Graph& graph, const PlannedLaunch& launch, const SymbolValues& sizes);
  std::size_t number_of(const std::string& reason);

  KernelTables tables_;
  std::string text_;
  std::vector<std::string> reasons_;
};

}  // namespace nereid::graph
