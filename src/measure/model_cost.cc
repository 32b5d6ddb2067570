#include "measure/model_cost.h"

#include <vector>

#include "model/architecture.h"

namespace nereid::measure {

std::int64_t streamed_weight_bytes(const model::ModelConfig& config) {
  model::GraphOptions options;
  options.weight_dtype = [&](const std::string&) { return config.dtype; };
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

}  // namespace nereid::measure
