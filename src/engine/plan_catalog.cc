#include "engine/plan_catalog.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "kernel/spec.h"

namespace nereid::engine {

namespace {

constexpr std::array<model::Tail, kNTails> kTails{
    model::Tail::greedy, model::Tail::sample, model::Tail::sample_penalty, model::Tail::logprob};

}  // namespace

RunnerOptions resolve_options(const model::ModelConfig& config, const RunnerOptions& options) {
  RunnerOptions resolved = options;
  if (options.mode == "compiled" || options.mode == "graph")
    throw Error("mode \"{}\" is not part of this build; available: eager", options.mode);
  if (options.mode != "eager")
    throw Error("unknown mode \"{}\"; expected eager, compiled or graph", options.mode);
  if (resolved.max_context_tokens == 0) resolved.max_context_tokens = config.max_context_tokens;
  if (resolved.max_context_tokens < 1 || resolved.max_context_tokens > config.max_context_tokens)
    throw Error("a context of {} tokens: this model's is 1 to {}", resolved.max_context_tokens,
                config.max_context_tokens);
  constexpr std::int64_t kMaxBatchTokens = 65536;
  if (resolved.max_batch_tokens < 1 || resolved.max_batch_tokens > kMaxBatchTokens)
    throw Error("{} tokens a step: expected 1 to {}", resolved.max_batch_tokens, kMaxBatchTokens);
  if (resolved.max_sequences < 1)
    throw Error("{} sequences a step: expected at least 1", resolved.max_sequences);
  resolved.max_sequences = std::min(resolved.max_sequences, resolved.max_batch_tokens);
  if (resolved.max_logit_rows == 0) resolved.max_logit_rows = resolved.max_sequences;
  if (resolved.max_logit_rows < resolved.max_sequences ||
      resolved.max_logit_rows > resolved.max_batch_tokens)
    throw Error("{} logit rows a step: expected {} to {}", resolved.max_logit_rows,
                resolved.max_sequences, resolved.max_batch_tokens);
  return resolved;
}

DType activation_dtype(const std::string& target, DType weights) {
  return kernel::target_family(target) == "cpu" ? DType::fp32 : weights;
}

PlanCatalog::PlanCatalog(const model::ModelConfig& config, std::string target,
                         const RunnerOptions& options, const graph::KernelTables& tables,
                         const WeightDType& weight_dtype)
    : target_(std::move(target)), options_(options), tables_(tables) {
  model::GraphOptions graph_options;
  graph_options.activation = activation_dtype(target_, config.dtype);
  graph_options.kv_cache = config.dtype;
  graph_options.weight_dtype = weight_dtype;
  graph_options.block_tokens = kBlockTokens;
  graph_options.n_blocks = options_.n_kv_blocks;
  graph_options.max_blocks_per_sequence =
      (options_.max_context_tokens + kBlockTokens - 1) / kBlockTokens;
  graph_options.n_slots = options_.max_sequences;
  for (const auto tail : kTails) {
    graph_options.tail = tail;
    graphs_[static_cast<std::size_t>(tail)] = model::build_graph(config, graph_options);
  }
}

model::ModelConfig PlanCatalog::representative(const model::ModelConfig& config) {
  model::ModelConfig reduced = config;
  const std::set<std::int64_t> windows(config.layer_windows.begin(), config.layer_windows.end());
  reduced.layer_windows.assign(windows.begin(), windows.end());
  reduced.n_layers = static_cast<std::int64_t>(windows.size());
  return reduced;
}

const graph::Graph& PlanCatalog::graph(model::Tail tail) const {
  return graphs_[static_cast<std::size_t>(tail)];
}

std::size_t PlanCatalog::bucket_of(std::int64_t n_rows) {
  return static_cast<std::size_t>(
      std::lower_bound(graph::kGemvRows.begin(), graph::kGemvRows.end(), n_rows) -
      graph::kGemvRows.begin());
}

std::int64_t PlanCatalog::bucket_rows(std::size_t bucket, std::int64_t limit) const {
  if (bucket < graph::kGemvRows.size()) return graph::kGemvRows[bucket];
  // One more than the last bucket at least, so that it is never taken for a smaller one.
  return std::max(limit, graph::kGemvRows.back() + 1);
}

graph::StepClass PlanCatalog::step_class(const PlanKey& key) const {
  return {bucket_rows(key.token_bucket, options_.max_batch_tokens), options_.max_sequences,
          bucket_rows(key.logit_bucket, options_.max_logit_rows), key.is_decode};
}

graph::SymbolValues PlanCatalog::largest() const {
  return {1, options_.max_batch_tokens, options_.max_sequences, options_.max_logit_rows,
          options_.max_batch_tokens};
}

std::vector<graph::PlannedLaunch> PlanCatalog::launches(const PlanKey& key) const {
  return graph::plan_launches(graph(key.tail), step_class(key), target_, tables_);
}

std::vector<kernel::KernelRequest> PlanCatalog::requests() const {
  std::map<std::string, kernel::KernelRequest> by_key;
  const auto collect = [&](const PlanKey& key) {
    for (auto& launch : launches(key)) {
      auto text = launch.request.key();
      by_key.try_emplace(std::move(text), std::move(launch.request));
    }
  };
  // A variant depends on the bucket of its own rows alone, so the diagonal meets every one.
  for (std::size_t bucket = 0; bucket < kNBuckets; ++bucket)
    for (const bool is_decode : {true, false})
      collect({model::Tail::greedy, bucket, bucket, is_decode});
  for (const auto tail : kTails) collect({tail, 0, 0, true});
  std::vector<kernel::KernelRequest> requests;
  for (auto& [text, request] : by_key) requests.push_back(std::move(request));
  return requests;
}

}  // namespace nereid::engine
