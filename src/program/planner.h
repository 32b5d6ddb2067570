// Goal: what a model's steps launch on a target, and which kernels that takes: the graph of each
// class of steps, its launches with their variants, and where its activations lie. Pure: knows
// neither weights' bytes nor a device; compiling, inspecting and tuning use it as Program does.
// Non-goal: addresses and running (Program).
#pragma once

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "graph/ir.h"
#include "graph/sizes.h"
#include "model/architecture.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "program/launch_plan.h"
#include "program/lower.h"
#include "program/settings.h"
#include "program/step_class.h"

namespace nereid::program {

// All that a class of steps runs.
struct StepPlan : LaunchPlan {
  StepClass steps;
};

class Planner {
 public:
  // Weights have the type that `checkpoint` gives them; without one the config's. `tables` may be
  // filled later: the first plan needs them.
  Planner(const model::ModelConfig& config, const Settings& settings, const KernelTables& tables,
          const model::Checkpoint* checkpoint = nullptr);

  const model::ModelConfig& config() const { return config_; }
  const Settings& settings() const { return settings_; }
  const KernelTables& tables() const { return tables_; }

  // All that the model means, fused unless the mode is eager, for any step: what weights there are.
  const graph::Graph& graph(model::Tail tail) const;
  // Taken apart again where steps of this class have no kernel; attention beside prompts split.
  graph::Graph graph(const StepClass& steps) const;
  StepPlan plan(const StepClass& steps) const;

  Bounds bounds(const StepClass& steps) const;  // what variants are made for
  graph::Sizes largest() const;                 // of any step
  // Of the steps that decide how much memory activations take: of the most rows that these limits
  // let a step have, and so with no kernel that only larger steps need.
  StepClass largest_class() const;
  // The values of this kind that any tail's graph reads, each once.
  std::vector<graph::Value> values(graph::ValueKind kind) const;
  // Every kernel variant that any step can launch, each once, sorted by key.
  std::vector<kernel::KernelRequest> requests() const;

 private:
  std::vector<kernel::KernelRequest> weight_requests() const;

  const model::ModelConfig config_;
  const Settings settings_;
  const KernelTables& tables_;
  model::GraphOptions graph_options_;
  // Made when first asked for: most runs need few of them.
  mutable std::array<std::optional<graph::Graph>, kTails.size()> graphs_;
};

// The same model with one layer of each kind: it asks for the same variants in a fraction of the
// time.
model::ModelConfig representative(const model::ModelConfig& config);

// The fewest and the most rows of a bucket.
std::pair<std::int64_t, std::int64_t> bucket_range(std::size_t bucket);

// Every variant that a model can launch with these settings, its weights all of the config's type,
// and what fills random ones.
std::vector<kernel::KernelRequest> requests_for(const model::ModelConfig& config,
                                                const Settings& settings,
                                                const KernelTables& tables);

// The same for every mode: what `nereid compile` puts into a bundle.
std::vector<kernel::KernelRequest> requests_for_all_modes(const model::ModelConfig& config,
                                                          Settings settings,
                                                          const KernelTables& tables);

}  // namespace nereid::program
