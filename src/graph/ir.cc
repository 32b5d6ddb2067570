#include "graph/ir.h"

#include <algorithm>
#include <type_traits>

#include "base/error.h"

namespace nereid::graph {

namespace {

OpRow make_row(Op op, std::string_view name, OpClass op_class, std::string_view roles,
               std::size_t n_outputs, std::string_view aliases) {
  OpRow row{op, name, op_class, {}, 0, n_outputs, {}};
  while (!roles.empty()) {
    const auto end = std::min(roles.find(' '), roles.size());
    auto role = roles.substr(0, end);
    if (role.ends_with('?')) {
      role.remove_suffix(1);
    } else {
      ++row.n_required;
    }
    row.roles.push_back(role);
    roles.remove_prefix(std::min(end + 1, roles.size()));
  }
  for (std::size_t i = 0; i + 2 < aliases.size(); i += 4)
    row.aliases.emplace_back(aliases[i] - '0', aliases[i + 2] - '0');
  return row;
}

const std::vector<OpRow>& op_table() {
  static const std::vector<OpRow> table{
#define GRAPH_OP(name, op_class, roles, n_outputs, aliases) \
  make_row(Op::name, #name, OpClass::op_class, roles, n_outputs, aliases),
#include "graph/ops.def"
#undef GRAPH_OP
  };
  return table;
}

template <typename T>
T attr_or(const Node& node, std::string_view name, T fallback) {
  for (const auto& [key, value] : node.attrs) {
    if (key != name) continue;
    if (const auto* held = std::get_if<T>(&value)) return *held;
    if constexpr (std::is_same_v<T, double>)
      if (const auto* integer = std::get_if<std::int64_t>(&value))
        return static_cast<double>(*integer);
    constexpr std::string_view expected = std::is_same_v<T, std::int64_t> ? "an integer"
                                          : std::is_same_v<T, double>     ? "a number"
                                          : std::is_same_v<T, DType>      ? "an element type"
                                                                          : "a text in quotes";
    throw Error("{}: attribute {}: expected {}", op_row(node.op).name, name, expected);
  }
  return fallback;
}

}  // namespace

const OpRow& op_row(Op op) { return op_table()[static_cast<std::size_t>(op)]; }

ValueKind output_kind(Op op) {
  return op_row(op).op_class == OpClass::layout ? ValueKind::weight : ValueKind::intermediate;
}

std::optional<Op> op_from_name(std::string_view name) {
  for (const auto& row : op_table())
    if (row.name == name) return row.op;
  return std::nullopt;
}

std::string dim_text(const Dim& dim) {
  if (dim.is_constant()) return fmt::format("{}", dim.offset);
  std::string text{kSymbolNames[static_cast<std::size_t>(dim.symbol)]};
  if (dim.factor != 1) text += fmt::format("*{}", dim.factor);
  if (dim.offset != 0) text += fmt::format("+{}", dim.offset);
  return text;
}

std::string dims_text(const std::vector<Dim>& dims) {
  std::string text = "[";
  for (const auto& dim : dims) text += (text.size() > 1 ? ", " : "") + dim_text(dim);
  return text + "]";
}

std::int64_t Node::int_attr(std::string_view name, std::int64_t fallback) const {
  return attr_or(*this, name, fallback);
}

double Node::float_attr(std::string_view name, double fallback) const {
  return attr_or(*this, name, fallback);
}

ValueId Graph::find(std::string_view wanted) const {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].name == wanted) return static_cast<ValueId>(i);
  return -1;
}

ValueId Graph::add_value(ValueKind kind, std::string value_name, DType dtype,
                         std::vector<Dim> shape) {
  values.push_back({kind, std::move(value_name), dtype, std::move(shape)});
  return static_cast<ValueId>(values.size() - 1);
}

std::vector<ValueId> Graph::add_node(Op op, std::vector<ValueId> inputs,
                                     std::vector<std::pair<std::string, Attr>> attrs,
                                     std::vector<std::string> output_names) {
  Node node{op, std::move(inputs), {}, std::move(attrs)};
  const auto types = infer_shapes(*this, node);
  for (std::size_t i = 0; i < types.size(); ++i) {
    auto output_name = i < output_names.size() && !output_names[i].empty()
                           ? output_names[i]
                           : fmt::format("{}", values.size());
    node.outputs.push_back(
        add_value(output_kind(op), std::move(output_name), types[i].dtype, types[i].shape));
  }
  nodes.push_back(std::move(node));
  return nodes.back().outputs;
}

ValueId Graph::add(Op op, std::vector<ValueId> inputs,
                   std::vector<std::pair<std::string, Attr>> attrs, std::string output_name) {
  const auto outputs_of =
      add_node(op, std::move(inputs), std::move(attrs), {std::move(output_name)});
  NEREID_CHECK(outputs_of.size() == 1, "{} has {} outputs", op_row(op).name, outputs_of.size());
  return outputs_of[0];
}

DType Node::dtype_attr(std::string_view name, DType fallback) const {
  return attr_or(*this, name, fallback);
}

std::string Node::text_attr(std::string_view name) const {
  return attr_or(*this, name, std::string());
}

void verify(const Graph& graph) {
  std::vector<bool> defined(graph.values.size(), false);
  for (std::size_t i = 0; i < graph.values.size(); ++i)
    defined[i] = graph.values[i].kind != ValueKind::intermediate;
  for (const auto& node : graph.nodes)
    if (op_row(node.op).op_class == OpClass::layout)
      for (const auto id : node.outputs)
        if (id >= 0 && static_cast<std::size_t>(id) < graph.values.size())
          defined[static_cast<std::size_t>(id)] = false;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    const auto at = fmt::format("graph {}, node {} ({})", graph.name, i, op_row(node.op).name);
    for (const auto id : node.inputs) {
      if (id < 0 || static_cast<std::size_t>(id) >= graph.values.size())
        throw Error("{}: operand {} does not exist", at, id);
      if (!defined[static_cast<std::size_t>(id)])
        throw Error("{}: %{} is used before it is computed", at, graph.value(id).name);
    }
    const auto types = infer_shapes(graph, node);
    if (types.size() != node.outputs.size())
      throw Error("{}: expected {} outputs, got {}", at, types.size(), node.outputs.size());
    for (std::size_t j = 0; j < types.size(); ++j) {
      const auto id = node.outputs[j];
      if (id < 0 || static_cast<std::size_t>(id) >= graph.values.size())
        throw Error("{}: output {} does not exist", at, id);
      const auto& value = graph.value(id);
      if (defined[static_cast<std::size_t>(id)])
        throw Error("{}: %{} is computed twice", at, value.name);
      if (value.dtype != types[j].dtype || value.shape != types[j].shape)
        throw Error("{}: %{} is declared {}{}, the operands make it {}{}", at, value.name,
                    dtype_name(value.dtype), dims_text(value.shape), dtype_name(types[j].dtype),
                    dims_text(types[j].shape));
      defined[static_cast<std::size_t>(id)] = true;
    }
  }
  for (const auto id : graph.outputs)
    if (id < 0 || static_cast<std::size_t>(id) >= graph.values.size() ||
        !defined[static_cast<std::size_t>(id)])
      throw Error("graph {}: output {} is never computed", graph.name, id);
}

}  // namespace nereid::graph
