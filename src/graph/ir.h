// Goal: a model's computation as a list of operations on named, typed values; every later form
// (eager, fused, captured) is made from it. A graph is a value: copied, compared and printed.
// Non-goal: control flow and data-dependent shapes. Dimensions are constants or one of a step's few
// sizes.
// Rejected: pointers between nodes; indices into two vectors copy and print without care.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <vector>

#include "graph/ops.h"
#include "tensor/dtype.h"

namespace nereid::graph {

// The sizes that change from step to step (sizes.h). T tokens, S sequences, R those of them that
// decode, L rows that want a logit, Q the longest query of a prompt.
enum class Symbol : std::uint8_t {
  one,
  n_tokens,
  n_sequences,
  n_decodes,
  n_logits,
  max_query_tokens
};
inline constexpr std::size_t kNSymbols = 6;
inline constexpr std::array<std::string_view, kNSymbols> kSymbolNames{"1", "T", "S", "R", "L", "Q"};

// symbol * factor + offset: 384, T, T*6, S+1.
struct Dim {
  Symbol symbol = Symbol::one;
  std::int64_t factor = 0;
  std::int64_t offset = 0;

  constexpr Dim() = default;
  constexpr Dim(std::int64_t constant) : offset(constant) {}  // NOLINT: a number is a dimension
  constexpr Dim(Symbol s) : symbol(s), factor(1) {}           // NOLINT
  constexpr Dim(Symbol s, std::int64_t f, std::int64_t o) : symbol(s), factor(f), offset(o) {}

  constexpr bool is_constant() const { return symbol == Symbol::one; }
  bool operator==(const Dim&) const = default;
};

std::string dim_text(const Dim& dim);
std::string dims_text(const std::vector<Dim>& dims);  // "[T, 384]"

using ValueId = std::int32_t;
inline constexpr ValueId kNoValue = -1;  // an operand that is absent

// input: filled for each step. weight: constant, from the checkpoint or made of such by a layout
// op. state: lives between steps.
enum class ValueKind : std::uint8_t { input, weight, state, intermediate };

struct Value {
  ValueKind kind = ValueKind::intermediate;
  std::string name;
  DType dtype = DType::fp32;
  std::vector<Dim> shape;
  bool operator==(const Value&) const = default;
};

ValueKind output_kind(Op op);  // of what the op computes: weight for layouts, else intermediate

// An operation on values. Operands are one a role, kNoValue where an optional one is absent;
// attributes are canonical (ops.h): nodes that mean the same are equal.
struct Node {
  Op op;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attrs attrs;

  // Operands in the order of the row; the last may be left out. An Error where there are too many,
  // or where an attribute is not of the op.
  Node(Op node_op, std::vector<ValueId> operands, std::vector<ValueId> results = {},
       const Attrs& attributes = {});

  // By role or name, which the op must have. An operand that is absent is kNoValue, an attribute
  // its default.
  ValueId operand(std::string_view role) const;
  ValueId result(std::string_view role) const;
  Attr attr(std::string_view name) const;
  std::int64_t int_attr(std::string_view name) const;
  double float_attr(std::string_view name) const;
  std::string text_attr(std::string_view name) const;
  std::optional<DType> dtype_attr(std::string_view name) const;

  bool has(std::string_view role) const { return operand(role) != kNoValue; }
  // The operands that are there.
  auto reads() const {
    return inputs | std::views::filter([](ValueId id) { return id != kNoValue; });
  }

  void set_operand(std::string_view role, ValueId id);
  void set_attr(std::string_view name, Attr value);
  void unset_attr(std::string_view name);
  // The other's operands and attributes of which this op has the name too.
  void adopt(const Node& other);

  bool operator==(const Node&) const = default;
};

struct Graph {
  std::string name;
  std::vector<Value> values;
  std::vector<Node> nodes;  // in an order that runs
  std::vector<ValueId> outputs;

  bool operator==(const Graph&) const = default;

  const Value& value(ValueId id) const { return values[static_cast<std::size_t>(id)]; }
  ValueId find(std::string_view name) const;  // kNoValue where absent

  ValueId add_value(ValueKind kind, std::string name, DType dtype, std::vector<Dim> shape);
  // Appends a node; outputs' types come from the op's shape function. Names: "%<n>" unless given.
  std::vector<ValueId> add_node(Op op, std::vector<ValueId> inputs, const Attrs& attrs = {},
                                std::vector<std::string> output_names = {});
  std::vector<ValueId> add_node(Node node, std::vector<std::string> output_names = {});
  // The one output of a node that has one.
  ValueId add(Op op, std::vector<ValueId> inputs, const Attrs& attrs = {}, std::string name = {});
};

// Result types of an op from its operands' (shape.cc). An Error names op, operand, expected and
// got.
struct TypedShape {
  DType dtype;
  std::vector<Dim> shape;
};
std::vector<TypedShape> infer_shapes(const Graph& graph, const Node& node);

// Operand counts, definitions before uses, shapes as inferred. An Error names the node by its line
// of text.
void verify(const Graph& graph);

// Text, one line a value or node; parse(print(g)) == g. Errors: "<where>:<line>: ...".
std::string print(const Graph& graph);
Graph parse(std::string_view text, const std::string& where);

}  // namespace nereid::graph
