// Goal: a model's computation as a list of operations on named, typed values; every later form
// (eager, fused, captured) is made from it. A graph is a value: copied, compared and printed.
// Non-goal: control flow and data-dependent shapes. Dimensions are constants or one of a step's few
// sizes.
// Rejected: pointers between nodes; indices into two vectors copy and print without care.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/ops.h"
#include "tensor/dtype.h"

namespace nereid::graph {

// The sizes that change from step to step (sizes.h). T tokens, S sequences, R those of them that
// decode, L rows that want a logit, Q the longest query of a prompt. Behind these a graph's own,
// which carry their name: a dimension is printed wherever it is.
class Symbol {
 public:
  static constexpr std::size_t kMaxNameBytes = 15;
  static const Symbol one, n_tokens, n_sequences, n_decodes, n_logits, max_query_tokens;

  // The `index`-th that a graph declares; of at most kMaxNameBytes.
  static Symbol own(std::size_t index, std::string_view name);

  constexpr std::size_t id() const { return id_; }  // in the order of a step's sizes, then the own
  constexpr std::string_view name() const {
    return {name_.data(), static_cast<std::size_t>(std::ranges::find(name_, '\0') - name_.begin())};
  }
  constexpr bool is_own() const;
  constexpr bool operator==(const Symbol&) const = default;

 private:
  constexpr Symbol(std::uint8_t id, std::string_view name) : id_(id) {
    std::ranges::copy(name, name_.begin());
  }

  std::uint8_t id_ = 0;
  std::array<char, kMaxNameBytes> name_{};
};
inline constexpr Symbol Symbol::one{0, "1"};
inline constexpr Symbol Symbol::n_tokens{1, "T"};
inline constexpr Symbol Symbol::n_sequences{2, "S"};
inline constexpr Symbol Symbol::n_decodes{3, "R"};
inline constexpr Symbol Symbol::n_logits{4, "L"};
inline constexpr Symbol Symbol::max_query_tokens{5, "Q"};

inline constexpr std::array kStepSymbols{Symbol::n_tokens, Symbol::n_sequences, Symbol::n_decodes,
                                         Symbol::n_logits, Symbol::max_query_tokens};
inline constexpr std::size_t kNStepSymbols = kStepSymbols.size() + 1;  // with `one`
inline constexpr std::size_t kMaxOwnSizes = 8;
constexpr bool Symbol::is_own() const { return id_ >= kNStepSymbols; }

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

// Of what the op computes: weight for layouts, else intermediate.
ValueKind output_kind(const OpRow& row);

// An operation on values. Operands are one a role, kNoValue where an optional one is absent;
// attributes are canonical (ops.h): nodes that mean the same are equal.
struct Node {
  Op op;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attrs attrs;
  std::shared_ptr<const OpRow> own = {};  // of a user's op

  // Operands in the order of the row; the last may be left out. An Error where there are too many,
  // or where an attribute is not of the op.
  Node(Op node_op, std::vector<ValueId> operands, std::vector<ValueId> results = {},
       const Attrs& attributes = {})
      : Node(OpRef{node_op}, std::move(operands), std::move(results), attributes) {}
  Node(OpRef ref, std::vector<ValueId> operands, std::vector<ValueId> results = {},
       const Attrs& attributes = {});

  const OpRow& row() const { return own ? *own : op_row(op); }

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
  std::vector<Symbol> sizes;  // its own, declared

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
Graph parse(std::string_view text, const std::string& where, const OpTable& ops = {});
// "<where>:<line>" of the line that declares or computes the value, in a text that was parsed.
std::string line_of(std::string_view text, const std::string& where, std::string_view value);

}  // namespace nereid::graph
