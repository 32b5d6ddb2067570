#include "measure/model_cost.h"

#include <algorithm>
#include <vector>

#include "model/architecture.h"

namespace nereid::measure {

std::string weights_name(const model::ModelConfig& config,
                         const std::optional<model::Quantization>& quantization) {
  return quantization ? quantization->name : std::string(dtype_name(config.dtype));
}

std::int64_t streamed_weight_bytes(const model::ModelConfig& config,
                                   const std::optional<model::Quantization>& quantization) {
  model::GraphOptions options;
  options.weight_dtype = [&](const std::string&) { return config.dtype; };
  options.quantization = quantization;
  const auto graph = model::build_graph(config, options);
  std::vector<bool> is_read(graph.values.size());
  for (const auto& node : graph.nodes) {
    if (node.op == graph::Op::gather_rows) continue;
    for (const auto id : node.reads()) is_read[static_cast<std::size_t>(id)] = true;
  }
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const auto& value = graph.values[i];
    if (value.kind != graph::ValueKind::weight || !is_read[i]) continue;
    std::int64_t n_elements = 1;
    for (const auto& dim : value.shape) n_elements *= dim.offset;
    bytes += n_elements * static_cast<std::int64_t>(dtype_size_bytes(value.dtype));
  }
  return bytes;
}

std::int64_t cached_bytes(const model::ModelConfig& config, DType cache, std::int64_t n_tokens) {
  std::int64_t n_seen = 0;
  for (const auto window : config.layer_windows)
    n_seen += window > 0 ? std::min(window, n_tokens) : n_tokens;
  return n_seen * 2 * config.n_kv_heads * config.head_dim *
         static_cast<std::int64_t>(dtype_size_bytes(cache));
}

LaunchCost launch_cost(const program::Planner& planner, const graph::Graph& graph,
                       const program::PlannedLaunch& launch, const StepShape& shape,
                       std::int64_t n_logits) {
  const auto sizes = shape.sizes(n_logits);
  const auto& node = graph.nodes[launch.node];
  if (node.row().op_class != graph::OpClass::attention)
    return {static_cast<double>(launch.evaluate(launch.spec->bytes, graph, sizes)),
            static_cast<double>(launch.evaluate(launch.spec->flops, graph, sizes))};
  const auto& config = planner.config();
  const auto n_before = shape.n_context - shape.n_query;
  const auto window = node.int_attr("window");
  // Pairs before the window, of the queries at the first n positions.
  const auto n_hidden = [&](std::int64_t n) {
    const auto n_beyond = window > 0 ? std::max<std::int64_t>(0, n - window) : 0;
    return n_beyond * (n_beyond + 1) / 2;
  };
  const auto n_pairs = shape.n_query * n_before + shape.n_query * (shape.n_query + 1) / 2 -
                       n_hidden(shape.n_context) + n_hidden(n_before);
  const auto n_keys =
      window > 0 ? std::min(shape.n_context, window + shape.n_query - 1) : shape.n_context;
  const auto activation =
      dtype_size_bytes(program::activation_dtype(planner.settings().target, config.dtype));
  return {
      static_cast<double>(shape.n_sequences * config.head_dim) *
          (2.0 * static_cast<double>(config.n_kv_heads * n_keys) *
               static_cast<double>(dtype_size_bytes(planner.settings().kv_cache)) +
           2.0 * static_cast<double>(config.n_heads * shape.n_query) *
               static_cast<double>(activation)),
      4.0 * static_cast<double>(shape.n_sequences * config.n_heads * config.head_dim * n_pairs)};
}

}  // namespace nereid::measure
