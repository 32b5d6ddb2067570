// Products of 8 bits, where there is a kernel for them: rows become integers before, for weights
// that are such, or 8-bit floats.
//   %y = linear %x, %w, norm = %g, scale = %s   =>   %n = rms_norm %x, %g
//                                                    %h, %l, %r = quantise_rows %n
//                                                    %y = linear %h, %w, scale = %s, x_low = %l,
//                                                                x_scale = %r
//                                             or     %q, %r = quantise_rows_fp8 %x, %g
//                                                    %y = linear %q, %w, scale = %s, x_scale = %r
// This rounds x, which no pass may: what a graph says is computed with x as it is.
#include <algorithm>
#include <array>
#include <vector>

#include "graph/passes/passes.h"

namespace nereid::graph {

namespace passes {
Undone undo_fuse_norm(const Uses& uses, const Node& node, Rewrite& rewrite);  // of passes.def
}

namespace {

// Columns that share a scale: the most of these that divide a group of the weight's; 0: none does.
constexpr std::array<std::int64_t, 3> kGroups{128, 64, 32};
// Columns of a block of 4 bits each, whose halves are read one after the other.
constexpr std::int64_t kBlock = 128;

// A weight with scales, whose rows of x have none yet.
bool is_quantised_linear(const Node& node) {
  return node.op == Op::linear && node.has("scale") && !node.has("x_scale");
}

bool is_of_floats(const Graph& graph, const Node& node) {
  return is_quantised_linear(node) && graph.value(node.operand("weight")).dtype == DType::fp8e4nv &&
         graph.value(node.operand("scale")).shape[1] == Dim(1);
}

// Of a weight of integers.
std::int64_t n_groups_of(const Graph& graph, const Node& node) {
  if (!is_quantised_linear(node)) return 0;
  const auto dtype = graph.value(node.operand("weight")).dtype;
  const auto n_in = graph.value(node.operand("x")).shape[1].offset;
  if (dtype != DType::i8 && (dtype != DType::u8 || n_in % kBlock != 0)) return 0;
  const auto n_each = n_in / graph.value(node.operand("scale")).shape[1].offset;
  const auto* group =
      std::ranges::find_if(kGroups, [&](std::int64_t size) { return n_each % size == 0; });
  return group == kGroups.end() ? 0 : n_in / *group;
}

passes::Nodes with_floats(const Graph& graph, const Node& node, passes::Rewrite& rewrite) {
  Node rows(Op::quantise_rows_fp8, {node.operand("x")}, {rewrite.fresh(), rewrite.fresh()});
  Node linear = node;
  if (node.has("norm")) {
    rows.set_operand("norm", node.operand("norm"));
    rows.set_attr("eps", node.attr("eps"));
    linear.set_operand("norm", kNoValue);
    linear.unset_attr("eps");
  }
  linear.set_operand("x", rows.result("out"));
  linear.set_operand("x_scale", rows.result("scale"));
  linear.set_attr("dtype", graph.value(node.outputs[0]).dtype);
  return {std::move(rows), std::move(linear)};
}

passes::Nodes with_integers(const passes::Uses& uses, const Node& node, passes::Rewrite& rewrite) {
  const auto& graph = uses.graph();
  passes::Nodes nodes;
  Node linear = node;
  if (auto undone = passes::undo_fuse_norm(uses, node, rewrite)) {
    nodes.push_back(std::move(undone->front()));
    linear = std::move(undone->back());
  }
  Node rows(Op::quantise_rows, {linear.operand("x")},
            {rewrite.fresh(), rewrite.fresh(), rewrite.fresh()});
  rows.set_attr("groups", n_groups_of(graph, node));
  linear.set_operand("x", rows.result("high"));
  linear.set_operand("x_low", rows.result("low"));
  linear.set_operand("x_scale", rows.result("scale"));
  linear.set_attr("dtype", graph.value(node.outputs[0]).dtype);
  nodes.push_back(std::move(rows));
  nodes.push_back(std::move(linear));
  return nodes;
}

}  // namespace

Graph quantise_rows(const Graph& graph, const IsOne& has_kernel) {
  std::vector<bool> which;
  for (const auto& node : graph.nodes)
    which.push_back(is_of_floats(graph, node) || n_groups_of(graph, node) > 0);
  const passes::Uses uses(graph);
  const auto rewritten = [&] {
    passes::Rewrite rewrite(graph);
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      if (!which[i]) continue;
      const auto& node = graph.nodes[i];
      rewrite.replace(node, is_of_floats(graph, node) ? with_floats(graph, node, rewrite)
                                                      : with_integers(uses, node, rewrite));
    }
    return rewrite.apply();
  };
  // Kernels are asked for nodes, and these are of a graph: first all are made.
  const auto all = rewritten();
  auto made = all.nodes.begin();
  for (std::size_t i = 0; i < graph.nodes.size(); ++i, ++made) {
    if (!which[i]) continue;
    while (made->op != Op::linear) ++made;
    which[i] = has_kernel(all, *made);
  }
  return rewritten();
}

}  // namespace nereid::graph
