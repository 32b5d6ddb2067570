// Goal: how a model's steps are planned where kernels are measured one by one: a model of one layer
// of each kind, and steps of the shapes that are measured. Knows no device.
// Non-goal: running anything (launch_bench.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/plan_catalog.h"
#include "graph/plan.h"
#include "kernel/spec.h"
#include "kernel/tuning.h"
#include "measure/bench_memory.h"
#include "model/config.h"
#include "nereid/options.h"

namespace nereid::measure {

class StepPlanner {
 public:
  StepPlanner(const Options& options, const std::string& target, std::span<const StepShape> steps);
  StepPlanner(const StepPlanner&) = delete;  // the catalog refers to the tables
  StepPlanner& operator=(const StepPlanner&) = delete;

  // A step of so many decoding sequences, or of one prompt.
  static StepShape shape_of(std::int64_t n_rows, std::int64_t n_decode_context);
  // Rows up to which a step decodes, and the most rows that get logits.
  static constexpr std::int64_t kMaxDecodeRows = 16;
  static constexpr std::int64_t kMaxLogitRows = 64;
  // What a step may hold at least, and a sequence.
  static constexpr std::int64_t kMinStepTokens = 1024;

  const std::string& target() const { return target_; }
  const model::ModelConfig& whole_config() const { return whole_; }
  const model::ModelConfig& config() const { return config_; }  // one layer of each kind
  graph::KernelTables tables() const { return {specs_, tuning_}; }
  const engine::PlanCatalog& catalog() const { return catalog_; }
  const engine::RunnerOptions& runner_options() const { return runner_options_; }
  // Of the kernel that fills memory: a bundle must have it too.
  kernel::KernelRequest fill_request() const;
  engine::PlanKey key_of(const StepShape& shape, std::int64_t n_logits) const;

 private:
  engine::RunnerOptions plan_options(const Options& options,
                                     std::span<const StepShape> steps) const;

  const std::string target_;
  const model::ModelConfig whole_;
  const model::ModelConfig config_;
  const kernel::SpecTable specs_ = kernel::SpecTable::builtin();
  const kernel::TuningTable tuning_;
  const engine::RunnerOptions runner_options_;
  const engine::PlanCatalog catalog_;
};

// A size or stride of the call; nothing where the kernel has none of that name.
std::optional<graph::Dim> size_of(const graph::PlannedLaunch& launch, std::string_view name);
// Whether it multiplies with a matrix of weights.
bool is_product(const graph::PlannedLaunch& launch);
// The matrix that a product reads: the largest weight, whatever its layout.
const graph::Value* matrix_of(const graph::Graph& graph, const graph::PlannedLaunch& launch);
// For people: "self_attn.q_proj", or of what reads no matrix the graph's name of the operation.
std::string label_of(const graph::Graph& graph, const graph::PlannedLaunch& launch);

}  // namespace nereid::measure
