// Goal: which plans a model has on a target: a graph for each tail, a step class for each bucket of
// rows. Pure; knows neither weights nor memory.
// Non-goal: running plans.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/runner.h"
#include "graph/plan.h"
#include "model/architecture.h"
#include "model/config.h"

namespace nereid::engine {

inline constexpr std::size_t kNTails = 4;
// Rows 1, 2, 4, 8, and whatever a step may hold.
inline constexpr std::size_t kNBuckets = graph::kGemvRows.size() + 1;

struct PlanKey {
  model::Tail tail = model::Tail::greedy;
  std::size_t token_bucket = 0;
  std::size_t logit_bucket = 0;
  bool is_decode = false;
};

class PlanCatalog {
 public:
  using WeightDType = std::function<DType(const std::string&)>;

  // Options must be resolved: no zeros that stand for "choose".
  PlanCatalog(const model::ModelConfig& config, std::string target, const RunnerOptions& options,
              const graph::KernelTables& tables, const WeightDType& weight_dtype);

  // The same catalog for a model with one layer of each kind: it asks for the same variants in a
  // fraction of the time.
  static model::ModelConfig representative(const model::ModelConfig& config);

  const graph::Graph& graph(model::Tail tail) const;
  static std::size_t bucket_of(std::int64_t n_rows);
  graph::StepClass step_class(const PlanKey& key) const;
  graph::SymbolValues largest() const;  // of any step
  std::vector<graph::PlannedLaunch> launches(const PlanKey& key) const;

  // Of every plan, each once, sorted by key.
  std::vector<kernel::KernelRequest> requests() const;

 private:
  std::int64_t bucket_rows(std::size_t bucket, std::int64_t limit) const;

  std::string target_;
  RunnerOptions options_;
  graph::KernelTables tables_;
  std::array<graph::Graph, kNTails> graphs_;
};

// Zeros that stand for "choose" replaced: context, logit rows. An Error where an option is out of
// range.
RunnerOptions resolve_options(const model::ModelConfig& config, const RunnerOptions& options);

inline constexpr std::int64_t kBlockTokens = 64;

// Element type of activations on a target: the processor computes in fp32 whatever the weights are.
DType activation_dtype(const std::string& target, DType weights);

}  // namespace nereid::engine
