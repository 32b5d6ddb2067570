#include "apps/graph_file.h"

#include <fmt/format.h>

#include <map>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "graph/cluster.h"
#include "graph/ir.h"
#include "graph/passes/passes.h"
#include "graph/triton_source.h"
#include "kernel/bundle.h"
#include "model/architecture.h"
#include "model/checkpoint.h"
#include "model/stored_name.h"
#include "program/own_ops.h"

namespace nereid::apps {

namespace {

void check_weights(const graph::Graph& graph, const std::string& text, const std::string& where,
                   const std::filesystem::path& model_dir) {
  const auto checkpoint = model::Checkpoint::open(model_dir);
  std::set<graph::ValueId> computed;
  for (const auto& node : graph.nodes) computed.insert(node.outputs.begin(), node.outputs.end());
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const auto& value = graph.values[i];
    if (value.kind != graph::ValueKind::weight || model::names::is_computed(value.name) ||
        computed.contains(static_cast<graph::ValueId>(i)))
      continue;
    const auto fail = [&](const std::string& what) {
      throw Error("{}: weight %{}: {}", graph::line_of(text, where, value.name), value.name, what);
    };
    if (!checkpoint.contains(value.name))
      fail(fmt::format("{} has no such tensor", model_dir.string()));
    const auto tensor = checkpoint.get(value.name);
    std::vector<graph::Dim> shape(tensor.shape.begin(), tensor.shape.end());
    const bool is_one_plus = model::stored_name(value.name).part == model::StoredPart::one_plus;
    const auto dtype = is_one_plus ? DType::fp32 : tensor.dtype;
    if (shape != value.shape || dtype != value.dtype)
      fail(fmt::format("expected {}{}, {} has {}{}", dtype_name(value.dtype),
                       graph::dims_text(value.shape), model_dir.string(), dtype_name(dtype),
                       graph::dims_text(shape)));
  }
}

// Each once, whatever the number of nodes that launch it.
std::string generated_sources(const graph::Graph& graph) {
  std::map<std::string, std::string> by_name;
  for (const auto& node : graph.nodes) {
    if (!graph::is_generated(node.op)) continue;
    const auto body = graph::generated_body(graph, node);
    if (!graph::can_generate(body)) continue;
    const auto kernel = graph::generate_kernel(body);
    by_name[kernel->spec.name] = kernel->source;
  }
  std::string out;
  for (const auto& [name, source] : by_name)
    out += fmt::format("\n# {}\n{}", kernel::generated_path(name), source);
  return out;
}

}  // namespace

std::string describe_graph_file(const std::filesystem::path& path,
                                const GraphFileOptions& options) {
  const auto text = read_text_file(path);
  const auto where = path.string();
  graph::OpTable ops;
  kernel::SpecTable specs;
  program::add_own_ops(options.ops, {}, ops, specs);
  const auto graph = graph::parse(text, where, ops);
  graph::verify(graph);
  if (!options.model_dir.empty()) check_weights(graph, text, where, options.model_dir);
  auto out = graph::print(graph);
  const auto fused = graph::run_passes(
      graph, {.skip = options.skip, .observe = [&](const graph::PassReport& report) {
                if (options.with_passes) out += "\n" + graph::describe(report);
              }});
  if (!options.with_passes) out += fmt::format("\n# after all passes\n{}", graph::print(fused));
  if (options.with_generated) out += generated_sources(fused);
  return out;
}

}  // namespace nereid::apps
