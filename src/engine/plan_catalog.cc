#include "engine/plan_catalog.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/usage_error.h"
#include "engine/ranges.h"
#include "graph/passes/passes.h"
#include "kernel/spec.h"

namespace nereid::engine {

namespace {

constexpr std::array<model::Tail, kNTails> kTails{
    model::Tail::greedy, model::Tail::sample, model::Tail::sample_penalty, model::Tail::logprob};

constexpr std::int64_t kMaxBatchTokens = ranges::kBatchTokens.high;

constexpr auto kRowBuckets = [] {
  std::array<std::int64_t, kNBuckets - 1> rows{};
  auto end = std::copy(graph::kGemvRows.begin(), graph::kGemvRows.end(), rows.begin());
  end = std::copy(graph::kSkinnyRows.begin(), graph::kSkinnyRows.end(), end);
  std::copy(graph::kTiledRows.begin(), graph::kTiledRows.end(), end);
  return rows;
}();

// What decides which fused ops have kernels, a bit each: the number of a form.
constexpr std::size_t kFewTokens = 1;
constexpr std::size_t kFewLogits = 2;
constexpr std::size_t kDecode = 4;
constexpr std::size_t kNFormsOfTail = PlanCatalog::kNForms / kNTails;

}  // namespace

std::string resolve_mode(const std::string& mode, std::string_view target) {
  if (mode == "auto") return kernel::target_family(target) == "cuda" ? "graph" : "compiled";
  if (mode != "eager" && mode != "compiled" && mode != "graph")
    throw Error("unknown mode \"{}\"; expected auto, eager, compiled or graph", mode);
  return mode;
}

RunnerOptions resolve_options(const model::ModelConfig& config, const RunnerOptions& options,
                              std::string_view target) {
  RunnerOptions resolved = options;
  resolved.mode = resolve_mode(options.mode, target);
  graph::check_pass_names(options.skip_passes);
  if (resolved.max_context_tokens == 0) resolved.max_context_tokens = config.max_context_tokens;
  if (resolved.max_context_tokens < 1 || resolved.max_context_tokens > config.max_context_tokens)
    throw UsageError("a context of {} tokens: this model's is 1 to {}", resolved.max_context_tokens,
                     config.max_context_tokens);
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
    : config_(config), target_(std::move(target)), options_(options), tables_(tables) {
  graph_options_.activation = activation_dtype(target_, config.dtype);
  graph_options_.kv_cache = config.dtype;
  graph_options_.weight_dtype = weight_dtype;
  graph_options_.block_tokens = kBlockTokens;
  graph_options_.n_blocks = options_.n_kv_blocks;
  graph_options_.max_blocks_per_sequence =
      (options_.max_context_tokens + kBlockTokens - 1) / kBlockTokens;
  graph_options_.n_slots = options_.max_sequences;
}

const graph::Graph& PlanCatalog::graph(model::Tail tail) const {
  auto& graph = graphs_[static_cast<std::size_t>(tail)];
  if (!graph) {
    auto options = graph_options_;
    options.tail = tail;
    graph = model::build_graph(config_, options);
    if (options_.mode != "eager")
      graph = graph::run_passes(*graph, {.skip = options_.skip_passes, .observe = {}});
  }
  return *graph;
}

const graph::Graph& PlanCatalog::form(std::size_t index) const {
  auto& form = forms_[index];
  if (!form) {
    const auto key = key_of_form(index);
    form = options_.mode == "eager"
               ? graph(key.tail)
               : graph::legalise(graph(key.tail), step_class(key), options_.skip_passes);
  }
  return *form;
}

// Of the keys of one form, one with the most rows.
PlanKey PlanCatalog::key_of_form(std::size_t form) {
  const auto bucket = [form](std::size_t bit) {
    return (form & bit) != 0 ? graph::kGemvRows.size() - 1 : kNBuckets - 1;
  };
  return {static_cast<model::Tail>(form / kNFormsOfTail), bucket(kFewTokens), bucket(kFewLogits),
          (form & kDecode) != 0};
}

std::size_t PlanCatalog::form_of(const PlanKey& key) const {
  const auto is_few = [](std::size_t bucket) { return bucket < graph::kGemvRows.size(); };
  return static_cast<std::size_t>(key.tail) * kNFormsOfTail +
         (is_few(key.token_bucket) ? kFewTokens : 0) + (is_few(key.logit_bucket) ? kFewLogits : 0) +
         (key.is_decode ? kDecode : 0);
}

graph::SymbolValues PlanCatalog::largest_of_form(std::size_t index) const {
  const auto steps = step_class(key_of_form(index));
  auto sizes = largest();
  sizes[static_cast<std::size_t>(graph::Symbol::n_tokens)] =
      std::min(steps.max_tokens, options_.max_batch_tokens);
  sizes[static_cast<std::size_t>(graph::Symbol::n_logits)] =
      std::min(steps.max_logits, options_.max_logit_rows);
  return sizes;
}

// Inputs are the same for any number of layers; states are of each layer, but for the tails' own.
std::vector<graph::Value> PlanCatalog::values(graph::ValueKind kind) const {
  std::vector<graph::Value> found;
  const auto collect = [&](const graph::Graph& graph) {
    for (const auto& value : graph.values)
      if (value.kind == kind &&
          std::ranges::find(found, value.name, &graph::Value::name) == found.end())
        found.push_back(value);
  };
  if (kind == graph::ValueKind::state) collect(graph(model::Tail::greedy));
  auto options = graph_options_;
  for (const auto tail : kTails) {
    options.tail = tail;
    collect(model::build_graph(representative(config_), options));
  }
  return found;
}

model::ModelConfig PlanCatalog::representative(const model::ModelConfig& config) {
  model::ModelConfig reduced = config;
  const std::set<std::int64_t> windows(config.layer_windows.begin(), config.layer_windows.end());
  reduced.layer_windows.assign(windows.begin(), windows.end());
  reduced.n_layers = static_cast<std::int64_t>(windows.size());
  return reduced;
}

std::size_t PlanCatalog::bucket_of(std::int64_t n_rows) {
  return static_cast<std::size_t>(std::lower_bound(kRowBuckets.begin(), kRowBuckets.end(), n_rows) -
                                  kRowBuckets.begin());
}

std::pair<std::int64_t, std::int64_t> PlanCatalog::bucket_range(std::size_t bucket) {
  return {bucket == 0 ? 1 : kRowBuckets[bucket - 1] + 1,
          bucket < kRowBuckets.size() ? kRowBuckets[bucket] : kMaxBatchTokens};
}

std::int64_t PlanCatalog::bucket_rows(std::size_t bucket, std::int64_t limit) const {
  if (bucket < kRowBuckets.size()) return kRowBuckets[bucket];
  // One more than the last bucket at least, so that it is never taken for a smaller one.
  return std::max(limit, kRowBuckets.back() + 1);
}

graph::StepClass PlanCatalog::step_class(const PlanKey& key) const {
  return {bucket_rows(key.token_bucket, options_.max_batch_tokens), options_.max_sequences,
          bucket_rows(key.logit_bucket, options_.max_logit_rows), key.is_decode,
          kernel::target_family(target_)};
}

graph::SymbolValues PlanCatalog::largest() const {
  return {1, options_.max_batch_tokens, options_.max_sequences, options_.max_logit_rows,
          options_.max_batch_tokens};
}

std::vector<graph::PlannedLaunch> PlanCatalog::launches(const PlanKey& key) const {
  return graph::plan_launches(graph(key), step_class(key), target_, tables_);
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
