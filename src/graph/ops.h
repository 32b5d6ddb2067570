// Goal: what an op is: its operands and results by role and type, its attributes with their types
// and defaults. All of it is the op's row in ops.def.
// Non-goal: whether a node fits (shape.cc), what it computes.
// Rejected: attributes as they come. A misspelt one would be a default that nobody asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tensor/dtype.h"

namespace nereid::graph {

enum class Op : std::uint8_t {
#define GRAPH_OP(name, ...) name,
#include "graph/ops.def"
#undef GRAPH_OP
};

enum class OpClass : std::uint8_t {
  memory,
  pointwise,
  reduction,
  matmul,
  attention,
  sampling,
  view,
  layout
};

// Neither is launched: a view renames bytes, a layout is made once, when weights are loaded.
constexpr bool has_launch(OpClass op_class) {
  return op_class != OpClass::view && op_class != OpClass::layout;
}

using Attr = std::variant<std::int64_t, double, DType, std::string>;
using Attrs = std::vector<std::pair<std::string, Attr>>;

// "D/2", "S+1", "heads", "4" or "...": a letter, an attribute or nothing, halved or added to.
struct DimPattern {
  std::string_view name;
  bool is_half = false;
  std::int64_t offset = 0;
};

// "float[N,C]", "=x[N,C]", ...: what the row says of a value's type.
struct TypePattern {
  std::string_view text;
  std::optional<DType> dtype = {};  // none: any, or
  bool is_float = false;            // any floating-point type, or
  std::string_view like = {};       // that of this operand
  std::optional<std::vector<DimPattern>> dims = {};
};

// As ops.def writes it; an Error of ours where it is none. Keeps views into `text`.
TypePattern type_pattern_of(std::string_view text);

struct Role {
  std::string_view name;
  bool is_optional = false;
  bool is_variadic = false;  // any number of values; then it is the only role
  TypePattern type = {};
};

enum class AttrType : std::uint8_t { integer, real, dtype, text, word };

struct AttrRow {
  std::string_view name;
  AttrType type;
  std::optional<Attr> default_value;     // none: a dtype may be absent, a text must be given
  std::vector<std::string_view> values;  // of a word: what it may be
};

struct OpRow {
  Op op;
  std::string_view name;
  OpClass op_class;
  std::vector<Role> operands, results;
  std::vector<std::pair<std::size_t, std::size_t>> aliases;  // result, operand
  std::vector<AttrRow> attrs;

  bool is_variadic() const { return operands[0].is_variadic; }
  // Nothing for a role or attribute that the op has not.
  std::optional<std::size_t> find_operand(std::string_view role) const;
  std::optional<std::size_t> find_result(std::string_view role) const;
  const AttrRow* find_attr(std::string_view attr) const;
};

const OpRow& op_row(Op op);
std::optional<Op> op_from_name(std::string_view name);

// "x, weight, bias?"
std::string roles_text(const std::vector<Role>& roles);
std::string attr_text(const Attr& attr);  // a text in quotes

// Attributes as nodes have them: in the order of the row, without those that equal their default,
// numbers of the row's type. An Error where one is unknown, given twice or of another type.
Attrs canonical_attrs(Op op, const Attrs& given);

}  // namespace nereid::graph
