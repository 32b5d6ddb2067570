#include "program/planner.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>

#include "graph/passes/passes.h"
#include "nereid/request.h"
#include "program/quantized_weights.h"
#include "program/random_fill.h"
#include "program/weight_kernels.h"

namespace nereid::program {

namespace {

static_assert(model::kMaxBiases == kMaxTokenBiases && model::kMaxTopLogprobs == kMaxLogprobs,
              "a step has room for what a request may ask");

// Of a bucket: as many rows as its kernels are made for. One more than the last bucket at least, so
// that it is never taken for a smaller one.
std::int64_t bucket_rows(std::size_t bucket, std::int64_t limit) {
  return bucket < kBucketRows.size() ? kBucketRows[bucket]
                                     : std::max(limit, kBucketRows.back() + 1);
}

// In the order in which a step has them, which passes decide.
void number_exchanges(graph::Graph& graph) {
  std::int64_t n = 0;
  for (auto& node : graph.nodes)
    if (node.row().op_class == graph::OpClass::exchange) node.set_attr("index", n++);
}

}  // namespace

Planner::Planner(const model::ModelConfig& config, const Settings& settings,
                 const KernelTables& tables, const model::Checkpoint* checkpoint)
    : config_(config), settings_(settings), tables_(tables) {
  const auto& limits = settings_.limits;
  graph_options_.activation = activation_dtype(settings_.target, config.dtype);
  graph_options_.kv_cache = settings_.kv_cache;
  if (checkpoint != nullptr && settings_.kv_cache == DType::fp8e4nv && settings_.quantization &&
      settings_.quantization->has_cache_scales)
    graph_options_.cache_scales = model::read_cache_scales(*checkpoint, config.n_layers);
  graph_options_.weight_dtype = [checkpoint, dtype = config.dtype](const std::string& name) {
    return checkpoint == nullptr ? dtype : checkpoint->dtype_of(name);
  };
  graph_options_.quantization = settings_.quantization;
  if (checkpoint != nullptr)
    graph_options_.scale_dtype = [checkpoint](const std::string& name) {
      return checkpoint->get(name).dtype;
    };
  graph_options_.block_tokens = limits.block_tokens;
  graph_options_.n_blocks = limits.n_kv_blocks;
  graph_options_.max_blocks_per_sequence = limits.max_blocks_per_sequence();
  graph_options_.n_slots = limits.max_sequences;
  graph_options_.max_logit_rows = limits.max_logit_rows;
  graph_options_.shard = settings_.shard;
  if (!settings_.shard.is_whole())
    graph_options_.slot_words =
        model::slot_words(config, graph_options_.activation, settings_.shard.n_ranks,
                          limits.max_batch_tokens, limits.max_logit_rows);
}

const graph::Graph& Planner::graph(model::Tail tail) const {
  auto& graph = graphs_[static_cast<std::size_t>(tail)];
  if (!graph) {
    auto options = graph_options_;
    options.tail = tail;
    graph = model::build_graph(config_, options);
    if (settings_.mode != "eager")
      graph = graph::run_passes(*graph, {.skip = settings_.skip_passes, .observe = {}});
  }
  return *graph;
}

graph::Graph Planner::graph(const StepClass& steps) const {
  graph::Graph result;
  if (settings_.mode != "eager")
    result = legalise(graph(steps.tail), bounds(steps), tables_.specs, settings_.skip_passes);
  else
    result = steps.is_decode ? graph(steps.tail) : graph::split_attention(graph(steps.tail));
  number_exchanges(result);
  return result;
}

StepPlan Planner::plan(const StepClass& steps) const {
  const auto all = largest();
  const auto& limits = settings_.limits;
  const auto n_tokens =
      std::min(all.n_tokens, bucket_rows(steps.token_bucket, limits.max_batch_tokens));
  const auto n_sequences = std::min(all.n_sequences, n_tokens);
  const graph::Sizes largest{
      .n_tokens = n_tokens,
      .n_sequences = n_sequences,
      .n_decodes = n_sequences,
      .n_logits = std::min(all.n_logits, bucket_rows(steps.logit_bucket, limits.max_logit_rows)),
      .max_query_tokens = steps.is_decode ? 1 : n_tokens};
  return {make_launch_plan(graph(steps), bounds(steps), largest, tables_), steps};
}

Bounds Planner::bounds(const StepClass& steps) const {
  const auto& limits = settings_.limits;
  // All steps as if of the same number of rows, which depends on no option either.
  const auto rows = [&](std::size_t bucket, std::int64_t limit) {
    return settings_.is_batch_invariant ? kBucketRows.back() + 1 : bucket_rows(bucket, limit);
  };
  const auto n_tokens = rows(steps.token_bucket, limits.max_batch_tokens);
  return {{.n_tokens = n_tokens,
           .n_sequences = limits.max_sequences,
           .n_decodes = limits.max_sequences,
           .n_logits = rows(steps.logit_bucket, limits.max_logit_rows),
           .max_query_tokens = steps.is_decode ? 1 : n_tokens},
          steps.is_decode,
          settings_.target,
          steps.is_uneven,
          settings_.attention,
          settings_.multiplies_bytes,
          settings_.has_fp8_activations};
}

StepClass Planner::largest_class() const {
  const auto& limits = settings_.limits;
  return {model::Tail::full, false, bucket_of(limits.max_batch_tokens),
          bucket_of(limits.max_logit_rows)};
}

graph::Sizes Planner::largest() const {
  const auto& limits = settings_.limits;
  return {.n_tokens = limits.max_batch_tokens,
          .n_sequences = limits.max_sequences,
          .n_decodes = limits.max_sequences,
          .n_logits = limits.max_logit_rows,
          .max_query_tokens = limits.max_batch_tokens};
}

// Inputs are the same for any number of layers; states are of each layer, but for the tails' own.
std::vector<graph::Value> Planner::values(graph::ValueKind kind) const {
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

std::vector<kernel::KernelRequest> Planner::requests() const {
  std::map<std::string, kernel::KernelRequest> by_key;
  const auto collect = [&](const StepClass& steps) {
    for (const auto& launch : lower(graph(steps), bounds(steps), tables_))
      by_key.try_emplace(launch.choice->key, launch.choice->request);
  };
  // A variant depends on the bucket of its own rows alone, so the diagonal meets every one.
  for (std::size_t bucket = 0; bucket < kNBuckets; ++bucket) {
    collect({model::Tail::greedy, false, bucket, bucket});
    for (const auto tail : kTails) collect({tail, true, bucket, bucket});
    collect({model::Tail::greedy, true, bucket, bucket, /*is_uneven=*/true});
  }
  for (auto& request : weight_requests()) {
    auto key = request.key();
    by_key.try_emplace(std::move(key), std::move(request));
  }
  std::vector<kernel::KernelRequest> requests;
  for (auto& [text, request] : by_key) requests.push_back(std::move(request));
  return requests;
}

// What makes quantised weights of floats: of a checkpoint's, or of random ones.
std::vector<kernel::KernelRequest> Planner::weight_requests() const {
  std::vector<kernel::KernelRequest> requests;
  for (const auto& weight : quantized_weights(graph(model::Tail::greedy))) {
    const bool is_of_floats = settings_.quantization->packing == model::WeightPacking::floats;
    const auto dtype = is_of_floats ? graph_options_.weight_dtype(weight.name) : config_.dtype;
    std::ranges::move(
        program::weight_requests(weight, *settings_.quantization, dtype, settings_.target, tables_),
        std::back_inserter(requests));
  }
  return requests;
}

model::ModelConfig representative(const model::ModelConfig& config) {
  model::ModelConfig reduced = config;
  const std::set<std::int64_t> windows(config.layer_windows.begin(), config.layer_windows.end());
  reduced.layer_windows.assign(windows.begin(), windows.end());
  reduced.n_layers = static_cast<std::int64_t>(windows.size());
  return reduced;
}

std::pair<std::int64_t, std::int64_t> bucket_range(std::size_t bucket) {
  return {bucket == 0 ? 1 : kBucketRows[bucket - 1] + 1, bucket_rows(bucket, kMaxBatchTokens)};
}

std::vector<kernel::KernelRequest> requests_for(const model::ModelConfig& config,
                                                const Settings& settings,
                                                const KernelTables& tables) {
  auto requests = Planner(representative(config), settings, tables).requests();
  requests.push_back(fill_request(config.dtype, settings.target, tables));
  return requests;
}

std::vector<kernel::KernelRequest> requests_for_all_modes(const model::ModelConfig& config,
                                                          Settings settings,
                                                          const KernelTables& tables) {
  std::map<std::string, kernel::KernelRequest> by_key;
  // A bundle that is made ahead has any processor's plans.
  const bool is_for_any = kernel::target_family(settings.target) == "cpu" && settings.quantization;
  std::vector<Settings> all;
  for (const char* mode : {"eager", "compiled"}) {
    settings.mode = mode;
    all.push_back(settings);
    if (!is_for_any) continue;
    all.push_back(settings);
    all.back().multiplies_bytes = !settings.multiplies_bytes;
  }
  for (const auto& each : all) {
    for (auto& request : requests_for(config, each, tables)) {
      auto key = request.key();
      by_key.try_emplace(std::move(key), std::move(request));
    }
  }
  std::vector<kernel::KernelRequest> requests;
  for (auto& [key, request] : by_key) requests.push_back(std::move(request));
  return requests;
}

}  // namespace nereid::program
