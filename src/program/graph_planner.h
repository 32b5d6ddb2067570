// Goal: a graph that somebody wrote, as what it launches: its text and operations read and checked,
// its sizes found in the shapes of its inputs, then fused, taken apart and lowered as a model's
// steps are. Pure: knows no device; compiling for another machine uses it as running does.
// Non-goal: memory and running (graph_runner.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/ir.h"
#include "graph/sizes.h"
#include "kernel/request.h"
#include "model/safetensors.h"
#include "nereid/graph_program.h"
#include "program/launch_plan.h"

namespace nereid::program {

// Of a value that the caller gives: an input, a state, a weight that no operation makes.
std::vector<graph::ValueId> given_values(const graph::Graph& graph);

class GraphPlanner {
 public:
  // `where` names the text in errors. Errors: what text and operations can lack; an input that
  // nothing reads; a graph that returns nothing.
  GraphPlanner(const std::string& text, const std::string& where, const GraphOptions& options,
               const std::string& target);
  GraphPlanner(const GraphPlanner&) = delete;  // plans refer to the tables

  const graph::Graph& graph() const { return graph_; }  // as it was written
  const std::string& target() const { return target_; }
  const std::string& mode() const { return mode_; }
  const KernelTables& tables() const { return tables_; }

  // The sizes of a run over these tensors. An Error names the line of what is missing, of another
  // type or shape than declared, or given and not declared.
  struct Bound {
    graph::Sizes sizes;
    bool is_decode = false;  // each sequence brings one token
    bool operator==(const Bound&) const = default;
  };
  Bound bind(const model::TensorMap& inputs) const;
  LaunchPlan plan(const Bound& bound) const;

 private:
  std::string line_of(const graph::Value& value) const {
    return graph::line_of(text_, where_, value.name);
  }
  void check() const;
  graph::Graph with_numbers(const graph::Sizes& sizes) const;
  Bounds bounds_of(const graph::Graph& graph, const Bound& bound) const;

  const std::string text_, where_, target_, mode_;
  const std::set<std::string> skip_passes_;
  graph::OpTable ops_;
  KernelTables tables_;
  graph::Graph graph_;
};

// The variants that a plan launches, each once.
std::vector<kernel::KernelRequest> requests_of(const LaunchPlan& plan);

}  // namespace nereid::program
