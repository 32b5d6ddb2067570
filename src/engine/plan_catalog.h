// Goal: which plans a model has on a target: a graph for each tail, a step class for each bucket of
// rows; fused (but in eager mode) and taken apart again where steps of a class have no kernel.
// Pure: knows neither weights nor memory.
// Non-goal: running plans.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/runner.h"
#include "graph/plan.h"
#include "model/architecture.h"
#include "model/config.h"

namespace nereid::engine {

inline constexpr std::size_t kNTails = 4;
// Rows 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, and whatever a step may hold.
inline constexpr std::size_t kNBuckets =
    graph::kGemvRows.size() + graph::kSkinnyRows.size() + graph::kTiledRows.size() + 1;

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

  // All that the model means, before it is cut to a class of steps: what weights there are.
  const graph::Graph& graph(model::Tail tail) const;
  // What steps of this key run. Keys of the same form run the same graph.
  const graph::Graph& graph(const PlanKey& key) const { return form(form_of(key)); }
  const graph::Graph& form(std::size_t index) const;
  static constexpr std::size_t kNForms = kNTails * 8;
  std::size_t form_of(const PlanKey& key) const;
  // The largest sizes that steps of a form have.
  graph::SymbolValues largest_of_form(std::size_t index) const;
  // The values of this kind that any tail's graph reads, each once.
  std::vector<graph::Value> values(graph::ValueKind kind) const;
  static std::size_t bucket_of(std::int64_t n_rows);
  // The fewest and the most rows of a bucket.
  static std::pair<std::int64_t, std::int64_t> bucket_range(std::size_t bucket);
  graph::StepClass step_class(const PlanKey& key) const;
  graph::SymbolValues largest() const;  // of any step
  std::vector<graph::PlannedLaunch> launches(const PlanKey& key) const;

  // Of every plan, each once, sorted by key.
  std::vector<kernel::KernelRequest> requests() const;

 private:
  static PlanKey key_of_form(std::size_t form);
  std::int64_t bucket_rows(std::size_t bucket, std::int64_t limit) const;

  model::ModelConfig config_;
  std::string target_;
  RunnerOptions options_;
  graph::KernelTables tables_;
  model::GraphOptions graph_options_;
  // Made when first asked for: most runs need few of them.
  mutable std::array<std::optional<graph::Graph>, kNTails> graphs_;
  mutable std::array<std::optional<graph::Graph>, kNForms> forms_;
};

// "auto" becomes the fastest mode of the target. An Error where there is no such mode.
std::string resolve_mode(const std::string& mode, std::string_view target);

// What stands for "choose" replaced: mode, context, logit rows. An Error where an option is out of
// range.
RunnerOptions resolve_options(const model::ModelConfig& config, const RunnerOptions& options,
                              std::string_view target);

inline constexpr std::int64_t kBlockTokens = 64;

// Element type of activations on a target: the processor computes in fp32 whatever the weights are.
DType activation_dtype(const std::string& target, DType weights);

}  // namespace nereid::engine
