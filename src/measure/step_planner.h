// Goal: how a model's steps are planned where kernels are measured one by one: a model of one layer
// of each kind, and steps of the shapes that are measured. Knows no device.
// Non-goal: running anything (launch_bench.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "model/config.h"
#include "nereid/options.h"
#include "program/planner.h"
#include "program/random_fill.h"

namespace nereid::measure {

// The sequences of a step, all alike; those that bring one token decode.
struct StepShape {
  std::int64_t n_sequences = 1;
  std::int64_t n_query = 1;    // tokens of each in this step
  std::int64_t n_context = 1;  // keys of each, those of this step among them

  std::int64_t n_tokens() const { return n_sequences * n_query; }
  graph::Sizes sizes(std::int64_t n_logits) const {
    return {.n_tokens = n_tokens(),
            .n_sequences = n_sequences,
            .n_decodes = n_query == 1 ? n_sequences : 0,
            .n_logits = n_logits,
            .max_query_tokens = n_query};
  }
};

class StepPlanner {
 public:
  StepPlanner(const Options& options, const std::string& target, std::span<const StepShape> steps);
  // Of a model that is not as its config.json says.
  StepPlanner(const model::ModelConfig& whole, const Options& options, const std::string& target,
              std::span<const StepShape> steps);
  StepPlanner(const StepPlanner&) = delete;  // the planner refers to the tables
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
  // Of an engine that runs them: with random weights, as large as the steps need.
  const Options& options() const { return options_; }
  const program::KernelTables& tables() const { return tables_; }
  const program::Planner& planner() const { return planner_; }
  // Of the kernel that fills memory: a bundle must have it too.
  kernel::KernelRequest fill_request() const {
    return program::fill_request(config_.dtype, target_, tables_);
  }
  static program::StepClass class_of(const StepShape& shape, std::int64_t n_logits) {
    return program::StepClass::of(model::Tail::greedy, shape.sizes(n_logits));
  }

 private:
  Options plan_options(const Options& options, std::span<const StepShape> steps) const;

  const std::string target_;
  const model::ModelConfig whole_;
  const model::ModelConfig config_;
  const Options options_;
  const program::KernelTables tables_ = program::KernelTables::builtin(options_.is_tuned);
  const program::Planner planner_;
};

// Whether it multiplies with a matrix of weights.
bool is_product(const program::PlannedLaunch& launch);
// The matrix that a product reads: the largest weight, whatever its layout.
const graph::Value* matrix_of(const graph::Graph& graph, const program::PlannedLaunch& launch);
// For people: "self_attn.q_proj", or of what reads no matrix the graph's name of the operation.
std::string label_of(const graph::Graph& graph, const program::PlannedLaunch& launch);

}  // namespace nereid::measure
