#include "measure/step_planner.h"

#include <algorithm>

namespace nereid::measure {

namespace {

// "model.layers.0.self_attn.q_proj.weight" -> "self_attn.q_proj"
std::string short_name(std::string name) {
  constexpr std::string_view kLayer = "model.layers.";
  if (const auto at = name.find(kLayer); at != std::string::npos)
    name.erase(0, name.find('.', at + kLayer.size()) + 1);
  if (const auto at = name.find(".weight"); at != std::string::npos) name.resize(at);
  return name;
}

}  // namespace

StepPlanner::StepPlanner(const Options& options, const std::string& target,
                         std::span<const StepShape> steps)
    : StepPlanner(model::ModelConfig::load(options.model_dir), options, target, steps) {}

StepPlanner::StepPlanner(const model::ModelConfig& whole, const Options& options,
                         const std::string& target, std::span<const StepShape> steps)
    : target_(target),
      whole_(whole),
      config_(program::representative(whole_)),
      options_(plan_options(options, steps)),
      planner_(config_, program::resolve(config_, options_, target_), tables_) {}

StepShape StepPlanner::shape_of(std::int64_t n_rows, std::int64_t n_decode_context) {
  if (n_rows <= kMaxDecodeRows) return {n_rows, 1, n_decode_context};
  return {1, n_rows, n_rows};
}

Options StepPlanner::plan_options(const Options& options, std::span<const StepShape> steps) const {
  const auto blocks_of = [](std::int64_t n_tokens) {
    return (n_tokens + program::kBlockTokens - 1) / program::kBlockTokens;
  };
  auto planned = options;
  planned.random_weights = true;
  planned.max_batch_tokens = kMinStepTokens;
  for (const auto& step : steps)
    planned.max_batch_tokens = std::max(planned.max_batch_tokens, step.n_tokens());
  planned.max_sequences = kMaxLogitRows;
  planned.max_context_tokens = std::min(planned.max_batch_tokens, config_.max_context_tokens);
  planned.n_kv_blocks = std::max(blocks_of(planned.max_batch_tokens), kMaxDecodeRows);
  for (const auto& step : steps)
    planned.n_kv_blocks =
        std::max(planned.n_kv_blocks, step.n_sequences * blocks_of(step.n_context));
  return planned;
}

bool is_product(const program::PlannedLaunch& launch) {
  return launch.size_of("n_out") && launch.size_of("n_in");
}

const graph::Value* matrix_of(const graph::Graph& graph, const program::PlannedLaunch& launch) {
  const graph::Value* matrix = nullptr;
  std::size_t most_bytes = 0;
  for (const auto& [pointer, id] : launch.pointers) {
    if (id == graph::kNoValue || graph.value(id).kind != graph::ValueKind::weight) continue;
    const auto bytes = graph::value_bytes(graph.value(id));
    if (bytes <= most_bytes) continue;
    most_bytes = bytes;
    matrix = &graph.value(id);
  }
  return matrix;
}

std::string label_of(const graph::Graph& graph, const program::PlannedLaunch& launch) {
  const auto* matrix = is_product(launch) ? matrix_of(graph, launch) : nullptr;
  return matrix != nullptr ? short_name(matrix->name)
                           : std::string(graph.nodes[launch.node].row().name);
}

}  // namespace nereid::measure
