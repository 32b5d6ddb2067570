#include "measure/step_planner.h"

#include <algorithm>

#include "engine/random_weights.h"
#include "engine/session.h"

namespace nereid::measure {

namespace {

// "model.layers.0.self_attn.q_proj.weight" -> "self_attn.q_proj"
std::string short_name(std::string name) {
  constexpr std::string_view kLayer = "model.layers.0.";
  if (const auto at = name.find(kLayer); at != std::string::npos) name.erase(0, at + kLayer.size());
  if (const auto at = name.find(".weight"); at != std::string::npos) name.resize(at);
  return name;
}

}  // namespace

StepPlanner::StepPlanner(const Options& options, const std::string& target,
                         std::span<const StepShape> steps)
    : target_(target),
      whole_(model::ModelConfig::load(options.model_dir)),
      config_(engine::PlanCatalog::representative(whole_)),
      tuning_(kernel::TuningTable::builtin(specs_)),
      runner_options_(plan_options(options, steps)),
      catalog_(config_, target_, runner_options_, tables(),
               [this](const std::string&) { return config_.dtype; }) {}

StepShape StepPlanner::shape_of(std::int64_t n_rows, std::int64_t n_decode_context) {
  if (n_rows <= kMaxDecodeRows) return {n_rows, 1, n_decode_context};
  return {1, n_rows, n_rows};
}

engine::RunnerOptions StepPlanner::plan_options(const Options& options,
                                                std::span<const StepShape> steps) const {
  const auto blocks_of = [](std::int64_t n_tokens) {
    return (n_tokens + engine::kBlockTokens - 1) / engine::kBlockTokens;
  };
  auto planned = engine::runner_options(options);
  planned.max_batch_tokens = kMinStepTokens;
  for (const auto& step : steps)
    planned.max_batch_tokens = std::max(planned.max_batch_tokens, step.n_tokens());
  planned.max_sequences = kMaxLogitRows;
  planned.max_logit_rows = kMaxLogitRows;
  planned.max_context_tokens = std::min(planned.max_batch_tokens, config_.max_context_tokens);
  planned.n_kv_blocks = std::max(blocks_of(planned.max_batch_tokens), kMaxDecodeRows);
  for (const auto& step : steps)
    planned.n_kv_blocks =
        std::max(planned.n_kv_blocks, step.n_sequences * blocks_of(step.n_context));
  return engine::resolve_options(config_, planned, target_);
}

kernel::KernelRequest StepPlanner::fill_request() const {
  return engine::RandomWeights::request(config_.dtype, target_, tables());
}

engine::PlanKey StepPlanner::key_of(const StepShape& shape, std::int64_t n_logits) const {
  return {model::Tail::greedy, engine::PlanCatalog::bucket_of(shape.n_tokens()),
          engine::PlanCatalog::bucket_of(n_logits), shape.n_query == 1};
}

std::optional<graph::Dim> size_of(const graph::PlannedLaunch& launch, std::string_view name) {
  for (const auto& [size, dim] : launch.call.sizes)
    if (size == name) return dim;
  return std::nullopt;
}

bool is_product(const graph::PlannedLaunch& launch) {
  return size_of(launch, "n_out") && size_of(launch, "n_in");
}

const graph::Value* matrix_of(const graph::Graph& graph, const graph::PlannedLaunch& launch) {
  const graph::Value* matrix = nullptr;
  std::size_t most_bytes = 0;
  for (const auto& [pointer, id] : launch.call.pointers) {
    if (id == graph::kNoValue || graph.value(id).kind != graph::ValueKind::weight) continue;
    const auto bytes = graph::value_bytes(graph.value(id), {});
    if (bytes <= most_bytes) continue;
    most_bytes = bytes;
    matrix = &graph.value(id);
  }
  return matrix;
}

std::string label_of(const graph::Graph& graph, const graph::PlannedLaunch& launch) {
  const auto* matrix = is_product(launch) ? matrix_of(graph, launch) : nullptr;
  return matrix != nullptr ? short_name(matrix->name)
                           : std::string(graph::op_row(graph.nodes[launch.node].op).name);
}

}  // namespace nereid::measure
