#include "graph/passes/cluster_cost.h"

#include <algorithm>

#include "base/error.h"
#include "graph/row_kernel.h"
#include "graph/row_ops.h"

namespace nereid::graph::passes {

namespace {

// Passes know no target: these are a large GPU's, in round numbers, and only their ratios matter.
// The number of rows is that of a long prompt; fewer rows make a launch weigh more, and a cluster
// has fewer launches.
constexpr double kBytesPerUs = 3e6;
constexpr double kFlopsPerUs = 3e7;
constexpr double kLaunchUs = 2.0;
constexpr double kRows = 4096;

double rows_us(const RowCost& cost) {
  return kRows * std::max(double(cost.bytes) / kBytesPerUs, double(cost.flops) / kFlopsPerUs);
}

std::string names_of(const Graph& body) {
  std::string names;
  for (const auto& node : body.nodes)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", node.row().name);
  return names;
}

}  // namespace

RowCost row_cost(const Graph& body) {
  // An operation that was known before has a kernel of its own, which reads a row once.
  const bool is_generated = body.nodes.size() > 1 || body.nodes[0].op == Op::map;
  RowCost cost{.n_reads = is_generated ? row_reads(body) : 1};
  const auto n_cols = body.value(body.outputs[0]).shape.back().offset;
  const auto bytes = [&](ValueId id) {
    return n_cols * static_cast<std::int64_t>(dtype_size_bytes(body.value(id).dtype));
  };
  const auto kinds = row_kinds(body);
  const auto is_turned = turned_values(body);
  NEREID_CHECK(kinds.has_value(), "{}", names_of(body));
  // Vectors are read by all rows: they come from the cache.
  for (std::size_t i = 0; i < body.values.size(); ++i)
    if (body.values[i].kind == ValueKind::input && is_matrix((*kinds)[i]))
      cost.bytes += cost.n_reads * bytes(static_cast<ValueId>(i));
  for (const auto id : body.outputs) cost.bytes += bytes(id);
  for (const auto& node : body.nodes) {
    const bool is_twice = is_turned[static_cast<std::size_t>(node.outputs[0])];
    cost.flops += cost.n_reads * (is_twice ? 2 : 1) * n_cols * formula_of(node).flops();
  }
  return cost;
}

ClusterChoice choose_cluster(const Graph& whole, const Graph& first, const Graph& second) {
  const auto one = row_cost(whole);
  const auto a = row_cost(first);
  const auto b = row_cost(second);
  ClusterChoice choice;
  choice.pays = rows_us(one) <= rows_us(a) + rows_us(b) + kLaunchUs;
  choice.reason = fmt::format(
      "{} with {}: {} bytes and {} flops a row{} instead of {} and {}, a launch less: {}",
      names_of(first), names_of(second), one.bytes, one.flops,
      one.n_reads > 1 ? fmt::format(", which is read {} times,", one.n_reads) : "",
      a.bytes + b.bytes, a.flops + b.flops, choice.pays ? "one kernel" : "left apart");
  return choice;
}

}  // namespace nereid::graph::passes
