// Goal: what an op is: its operands and results by role and type, its attributes with their types
// and defaults. All of it is the op's row: in ops.def, or in a user's file.
// Non-goal: whether a node fits (shape.cc), what it computes.
// Rejected: attributes as they come. A misspelt one would be a default that nobody asked for. And a
// table that users' rows are added to while others read it: a node holds its row, an OpTable is a
// value that is given to whoever reads names.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kernel/expression.h"
#include "kernel/own_op.h"
#include "tensor/dtype.h"

namespace nereid::graph {

enum class Op : std::uint8_t {
#define GRAPH_OP(name, ...) name,
#include "graph/ops.def"
#undef GRAPH_OP
  own  // a user's: which one says the row that the node holds
};

enum class OpClass : std::uint8_t {
  memory,
  pointwise,
  reduction,
  matmul,
  attention,
  sampling,
  exchange,
  opaque,  // a user's: no pass looks into it
  view,
  layout
};

// Neither is launched: a view renames bytes, a layout is made once, when weights are loaded.
constexpr bool has_launch(OpClass op_class) {
  return op_class != OpClass::view && op_class != OpClass::layout;
}

using Attr = std::variant<std::int64_t, double, DType, std::string>;
using Attrs = std::vector<std::pair<std::string, Attr>>;

// "D/2", "S+1", "heads", "4" or "...": a letter, an attribute or nothing, halved or added to; or an
// expression over letters and attributes: "C//2", "cdiv(N,size)".
struct DimPattern {
  std::string_view text;
  std::string_view name = {};
  bool is_half = false;
  std::int64_t offset = 0;
  std::optional<kernel::Expression> expression = {};  // in the place of all before
};

// A size of the row: A to Z, of which T, S, R, L and Q are a step's (ir.h).
constexpr bool is_letter(std::string_view name) {
  return name.size() == 1 && name[0] >= 'A' && name[0] <= 'Z';
}

// "float[N,C]", "=x[N,C]", ...: what the row says of a value's type.
struct TypePattern {
  std::string_view text;
  std::optional<DType> dtype = {};  // none: any, or
  bool is_float = false;            // any floating-point type, or
  std::string_view like = {};       // that of this operand
  std::optional<std::vector<DimPattern>> dims = {};
};

// As rows write it; an Error where it is none. Keeps views into `text`.
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

const OpRow& op_row(Op op);  // of ops.def
std::optional<Op> op_from_name(std::string_view name);

// Which operation a name means.
struct OpRef {
  Op op;
  std::shared_ptr<const OpRow> own = {};  // where `op` says so

  const OpRow& row() const { return own ? *own : op_row(op); }
};

// The operations by name: those of ops.def, and a user's own.
class OpTable {
 public:
  // An Error names file and line of what is wrong with the row, or of a name that is taken. A row
  // that is there already, word for word, may come again: of another kernel for it.
  void add(const kernel::OwnRow& row);
  std::optional<OpRef> find(std::string_view name) const;
  // Their names.
  std::string own_text() const;

 private:
  struct Held;
  std::map<std::string, std::shared_ptr<const Held>, std::less<>> own_;
};

// Whether a dimension of an operand or result reads the attribute.
bool is_dimension(const OpRow& row, std::string_view attr);

// "x, weight, bias?"
std::string roles_text(const std::vector<Role>& roles);
std::string attr_text(const Attr& attr);  // a text in quotes

// Attributes as nodes have them: in the order of the row, without those that equal their default,
// numbers of the row's type. An Error where one is unknown, given twice or of another type.
Attrs canonical_attrs(const OpRow& row, const Attrs& given);

}  // namespace nereid::graph
