#include "graph/ir.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace nereid::graph {

namespace {

std::size_t operand_index(const Node& node, std::string_view role) {
  const auto& row = node.row();
  const auto index = row.is_variadic() ? std::nullopt : row.find_operand(role);
  NEREID_CHECK(index.has_value(), "{} has no operand {}", row.name, role);
  return *index;
}

const AttrRow& attr_row(const Node& node, std::string_view name) {
  const auto* attr = node.row().find_attr(name);
  NEREID_CHECK(attr != nullptr, "{} has no attribute {}", node.row().name, name);
  return *attr;
}

const Attr* given_attr(const Node& node, std::string_view name) {
  const auto it = std::ranges::find(node.attrs, name, &Attrs::value_type::first);
  return it == node.attrs.end() ? nullptr : &it->second;
}

template <typename T>
T attr_as(const Node& node, std::string_view name) {
  const Attr value = node.attr(name);
  const auto* held = std::get_if<T>(&value);
  NEREID_CHECK(held != nullptr, "{}: attribute {} is of another type", node.row().name, name);
  return *held;
}

}  // namespace

Symbol Symbol::own(std::size_t index, std::string_view name) {
  NEREID_CHECK(index < kMaxOwnSizes && !name.empty() && name.size() <= kMaxNameBytes, "size {}",
               name);
  return {static_cast<std::uint8_t>(kNStepSymbols + index), name};
}

ValueKind output_kind(const OpRow& row) {
  return row.op_class == OpClass::layout ? ValueKind::weight : ValueKind::intermediate;
}

std::string dim_text(const Dim& dim) {
  if (dim.is_constant()) return fmt::format("{}", dim.offset);
  std::string text{dim.symbol.name()};
  if (dim.factor != 1) text += fmt::format("*{}", dim.factor);
  if (dim.offset != 0) text += fmt::format("{:+}", dim.offset);
  return text;
}

std::string dims_text(const std::vector<Dim>& dims) {
  std::string text = "[";
  for (const auto& dim : dims) text += (text.size() > 1 ? ", " : "") + dim_text(dim);
  return text + "]";
}

Node::Node(OpRef ref, std::vector<ValueId> operands, std::vector<ValueId> results,
           const Attrs& attributes)
    : op(ref.op),
      inputs(std::move(operands)),
      outputs(std::move(results)),
      attrs(canonical_attrs(ref.row(), attributes)),
      own(std::move(ref.own)) {
  const auto& its = row();
  if (its.is_variadic()) return;
  if (inputs.size() > its.operands.size())
    throw Error("{}: expected the operands {}, got {}", its.name, roles_text(its.operands),
                inputs.size());
  inputs.resize(its.operands.size(), kNoValue);
}

ValueId Node::operand(std::string_view role) const { return inputs[operand_index(*this, role)]; }

ValueId Node::result(std::string_view role) const {
  const auto index = row().find_result(role);
  NEREID_CHECK(index && *index < outputs.size(), "{} has no result {}", row().name, role);
  return outputs[*index];
}

Attr Node::attr(std::string_view name) const {
  const auto& declared = attr_row(*this, name);
  if (const auto* given = given_attr(*this, name)) return *given;
  if (!declared.default_value) throw Error("{}: attribute {} is missing", row().name, name);
  return *declared.default_value;
}

std::int64_t Node::int_attr(std::string_view name) const {
  return attr_as<std::int64_t>(*this, name);
}

double Node::float_attr(std::string_view name) const { return attr_as<double>(*this, name); }

std::string Node::text_attr(std::string_view name) const {
  return attr_as<std::string>(*this, name);
}

std::optional<DType> Node::dtype_attr(std::string_view name) const {
  if (!attr_row(*this, name).default_value && given_attr(*this, name) == nullptr)
    return std::nullopt;
  return attr_as<DType>(*this, name);
}

void Node::set_operand(std::string_view role, ValueId id) {
  inputs[operand_index(*this, role)] = id;
}

void Node::set_attr(std::string_view name, Attr value) {
  unset_attr(name);
  attrs.emplace_back(name, std::move(value));
  attrs = canonical_attrs(row(), attrs);
}

void Node::unset_attr(std::string_view name) {
  std::erase_if(attrs, [&](const auto& entry) { return entry.first == name; });
}

void Node::adopt(const Node& other) {
  const auto& theirs = other.row();
  for (const auto& role : row().operands)
    if (theirs.find_operand(role.name)) set_operand(role.name, other.operand(role.name));
  for (const auto& attr : row().attrs)
    if (const auto* given = given_attr(other, attr.name)) set_attr(attr.name, *given);
}

ValueId Graph::find(std::string_view wanted) const {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].name == wanted) return static_cast<ValueId>(i);
  return kNoValue;
}

ValueId Graph::add_value(ValueKind kind, std::string value_name, DType dtype,
                         std::vector<Dim> shape) {
  values.push_back({kind, std::move(value_name), dtype, std::move(shape)});
  return static_cast<ValueId>(values.size() - 1);
}

std::vector<ValueId> Graph::add_node(Op op, std::vector<ValueId> inputs, const Attrs& attrs,
                                     std::vector<std::string> output_names) {
  return add_node(Node(op, std::move(inputs), {}, attrs), std::move(output_names));
}

std::vector<ValueId> Graph::add_node(Node node, std::vector<std::string> output_names) {
  const auto types = infer_shapes(*this, node);
  node.outputs.clear();
  for (std::size_t i = 0; i < types.size(); ++i) {
    auto output_name = i < output_names.size() && !output_names[i].empty()
                           ? output_names[i]
                           : fmt::format("{}", values.size());
    node.outputs.push_back(
        add_value(output_kind(node.row()), std::move(output_name), types[i].dtype, types[i].shape));
  }
  nodes.push_back(std::move(node));
  return nodes.back().outputs;
}

ValueId Graph::add(Op op, std::vector<ValueId> inputs, const Attrs& attrs,
                   std::string output_name) {
  const auto outputs_of = add_node(op, std::move(inputs), attrs, {std::move(output_name)});
  NEREID_CHECK(outputs_of.size() == 1, "{} has {} outputs", op_row(op).name, outputs_of.size());
  return outputs_of[0];
}

void verify(const Graph& graph) {
  std::vector<bool> defined(graph.values.size(), false);
  for (std::size_t i = 0; i < graph.values.size(); ++i)
    defined[i] = graph.values[i].kind != ValueKind::intermediate;
  for (const auto& node : graph.nodes)
    if (node.row().op_class == OpClass::layout)
      for (const auto id : node.outputs)
        if (id >= 0 && static_cast<std::size_t>(id) < graph.values.size())
          defined[static_cast<std::size_t>(id)] = false;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    const auto at = fmt::format("graph {}, node {} ({})", graph.name, i, node.row().name);
    if (canonical_attrs(node.row(), node.attrs) != node.attrs)
      throw Error("{}: attributes that are not canonical", at);
    for (const auto id : node.reads()) {
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
