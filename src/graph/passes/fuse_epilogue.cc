//   %p = linear %x, %w
//   %gate, %up = halves of %p       <=>   %y = linear %x, %w {epilogue =
//   %y = silu_mul %gate, %up                "(gate, up) -> silu(gate) * up"}
// and alike of one value: %y = scale %p {alpha = 0.5} is the epilogue "(x) -> 0.5 * x".
#include <array>

#include "graph/passes/rewrite.h"
#include "graph/row_ops.h"

namespace nereid::graph::passes {

namespace {

constexpr auto kPointwise = std::to_array({Op::silu_mul, Op::scale, Op::map});

// What one value of the result is of one of each operand; nothing for other ops.
std::optional<std::string> expression_of(const Node& node) {
  if (std::ranges::find(kPointwise, node.op) == kPointwise.end() || node.outputs.size() != 1 ||
      formula_of(node).has_reduction())
    return std::nullopt;
  return expression::print_body(body_of(node));
}

// The linear whose result the operands are, or whose halves in this order, and nobody else reads;
// with what lies between the two.
struct Source {
  const Node* linear;
  std::vector<const Node*> halves = {};
};
std::optional<Source> source_of(const Uses& uses, const Node& node) {
  Source source{uses.producer(node.inputs[0], Op::linear)};
  if (node.inputs.size() == 2) {
    for (const auto id : node.inputs) {
      const auto* half = uses.producer(id, Op::slice);
      const auto n_cols = uses.graph().value(id).shape.back().offset;
      if (half == nullptr || uses.n_readers(id) != 1 ||
          half->int_attr("begin") != n_cols * static_cast<std::int64_t>(source.halves.size()))
        return std::nullopt;
      source.halves.push_back(half);
    }
    const auto both = source.halves[0]->operand("x");
    const auto n_cols = uses.graph().value(node.inputs[0]).shape.back().offset;
    if (source.halves[1]->operand("x") != both ||
        uses.graph().value(both).shape.back() != Dim(2 * n_cols))
      return std::nullopt;
    source.linear = uses.producer(both, Op::linear);
  }
  if (node.inputs.size() > 2 || source.linear == nullptr || !is_plain_linear(*source.linear) ||
      uses.n_readers(source.linear->result("y")) != node.inputs.size())
    return std::nullopt;
  return source;
}

// The op that the expression was, as far as there is one.
Node node_of(const std::string& text, std::vector<ValueId> inputs, std::vector<ValueId> outputs) {
  const auto formula = expression::expand(expression::parse_body(text, "epilogue"), "epilogue");
  double number = 1;
  for (const auto& term : formula.terms)
    if (term.kind == expression::Term::Kind::number) number = term.number;
  const Attrs scaled{{"alpha", number}};
  const Node node = inputs.size() == 2 ? Node(Op::silu_mul, inputs, outputs)
                                       : Node(Op::scale, inputs, outputs, scaled);
  if (expression_of(node) == text) return node;
  return {Op::map, std::move(inputs), std::move(outputs), {{std::string(kBody), text}}};
}

}  // namespace

Graph fuse_epilogue(const Graph& graph) {
  const Uses uses(graph);
  Rewrite rewrite(graph);
  for (const auto& node : graph.nodes) {
    const auto text = expression_of(node);
    if (!text) continue;
    const auto source = source_of(uses, node);
    if (!source) continue;
    Node fused = *source->linear;
    fused.set_attr("epilogue", *text);
    fused.outputs = node.outputs;
    if (const auto dtype = graph.value(node.outputs[0]).dtype;
        dtype != graph.value(source->linear->result("y")).dtype)
      fused.set_attr("dtype", dtype);
    rewrite.remove(*source->linear);
    for (const auto* half : source->halves) rewrite.remove(*half);
    rewrite.replace(node, {std::move(fused)});
  }
  return rewrite.apply();
}

Undone undo_fuse_epilogue(const Uses& uses, const Node& node, Rewrite& rewrite) {
  if (node.op != Op::linear || node.text_attr("epilogue").empty()) return std::nullopt;
  const auto text = node.text_attr("epilogue");
  Node linear = node;
  linear.unset_attr("epilogue");
  linear.outputs = {rewrite.fresh()};
  Nodes nodes{linear};
  std::vector<ValueId> values = linear.outputs;
  if (expression::parse_body(text, "epilogue").n_operands == 2) {
    const auto n_cols = uses.graph().value(node.result("y")).shape.back().offset;
    values = {rewrite.fresh(), rewrite.fresh()};
    for (std::int64_t i = 0; i < 2; ++i)
      nodes.push_back({Op::slice,
                       linear.outputs,
                       {values[static_cast<std::size_t>(i)]},
                       {{"begin", i * n_cols}, {"size", n_cols}}});
  }
  nodes.push_back(node_of(text, std::move(values), node.outputs));
  return nodes;
}

}  // namespace nereid::graph::passes
