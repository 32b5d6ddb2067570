#include "graph/ops.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <ranges>

#include "base/error.h"

namespace nereid::graph {

namespace {

// ---- rows as texts

constexpr std::size_t kMaxDims = 8;

// Outside of brackets and parentheses.
std::vector<std::string_view> parts_of(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  int depth = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size()) {
      depth += text[i] == '[' || text[i] == '(' ? 1 : text[i] == ']' || text[i] == ')' ? -1 : 0;
      if (text[i] != separator || depth > 0) continue;
    }
    if (i > begin) parts.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  return parts;
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

// Of roles and attributes: as Python and a graph's text have names.
bool is_name(std::string_view text) {
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) == 0 &&
         std::ranges::all_of(text, [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
         });
}

std::string_view checked_name(std::string_view text, std::string_view within) {
  if (!is_name(text))
    throw Error("\"{}\": expected a name of small letters, digits and _, got \"{}\"", within, text);
  return text;
}

template <typename Number>
Number number_of(std::string_view text, std::string_view within) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size())
    throw Error("\"{}\": expected a number, got \"{}\"", within, text);
  return number;
}

bool is_digits(std::string_view text) {
  return !text.empty() &&
         std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
}

bool is_size_name(std::string_view name) { return is_letter(name) || is_name(name); }

DimPattern dim_pattern_of(std::string_view text) {
  DimPattern dim{.text = text};
  if (text == "...") {
    dim.name = text;
    return dim;
  }
  const auto name = text.substr(0, text.find_first_of("/+"));
  const auto rest = text.substr(name.size());
  if (is_digits(text)) {
    dim.offset = number_of<std::int64_t>(text, text);
  } else if (is_size_name(name) && (rest.empty() || rest == "/2")) {
    dim.name = name;
    dim.is_half = !rest.empty();
  } else if (is_size_name(name) && rest[0] == '+' && is_digits(rest.substr(1))) {
    dim.name = name;
    dim.offset = number_of<std::int64_t>(rest.substr(1), text);
  } else {
    dim.expression = kernel::Expression::parse(text, "dimension");
    for (const auto& symbol : dim.expression->symbols())
      if (!is_size_name(symbol))
        throw Error("dimension \"{}\": expected letters (sizes of operands) and attributes, got {}",
                    text, symbol);
  }
  return dim;
}

}  // namespace

TypePattern type_pattern_of(std::string_view text) {
  TypePattern type{.text = text};
  const auto bracket = std::min(text.find('['), text.size());
  const auto element = text.substr(0, bracket);
  if (element.starts_with('='))
    type.like = element.substr(1);
  else
    type.dtype = dtype_from_name(element);
  type.is_float = element == "float";
  if (!type.dtype && !type.is_float && type.like.empty() && !element.empty() && element != "any")
    throw Error(
        "\"{}\": expected an element type (fp32, i32, ...), float, any or =OPERAND, got \"{}\"",
        text, element);
  if (bracket == text.size()) return type;
  if (!text.ends_with(']')) throw Error("\"{}\": the dimensions are not closed by ]", text);
  type.dims.emplace();
  for (const auto dim : parts_of(text.substr(bracket + 1, text.size() - bracket - 2), ',')) {
    type.dims->push_back(dim_pattern_of(trimmed(dim)));
    if (type.dims->back().name == "..." && type.dims->size() > 1)
      throw Error("\"{}\": expected ... before all other dimensions", text);
  }
  if (type.dims->empty() || type.dims->size() > kMaxDims)
    throw Error("\"{}\": expected 1 to {} dimensions", text, kMaxDims);
  return type;
}

namespace {

std::vector<Role> roles_of(std::string_view text) {
  std::vector<Role> roles;
  for (const auto part : parts_of(text, ' ')) {
    const auto colon = std::min(part.find(':'), part.size());
    auto name = part.substr(0, colon);
    Role role;
    role.is_optional = name.ends_with('?');
    role.is_variadic = name.ends_with("...");
    name.remove_suffix(role.is_optional ? 1 : role.is_variadic ? 3 : 0);
    role.name = checked_name(name, part);
    role.type = type_pattern_of(part.substr(std::min(colon + 1, part.size())));
    roles.push_back(role);
  }
  return roles;
}

AttrRow attr_row_of(std::string_view text) {
  const auto colon = text.find(':');
  const auto equals = std::min(text.find('='), text.size());
  const auto type = text.substr(colon + 1, equals - colon - 1);
  const auto fallback = text.substr(std::min(equals + 1, text.size()));
  if (colon == std::string_view::npos)
    throw Error("\"{}\": expected NAME:TYPE=DEFAULT, of int, float, dtype, text or one|two", text);
  AttrRow row{checked_name(text.substr(0, colon), text), AttrType::word, {}, {}};
  if (type == "int") {
    row.type = AttrType::integer;
    row.default_value = number_of<std::int64_t>(fallback, text);
  } else if (type == "float") {
    row.type = AttrType::real;
    row.default_value = number_of<double>(fallback, text);
  } else if (type == "dtype" || type == "text") {
    row.type = type == "dtype" ? AttrType::dtype : AttrType::text;
    if (type == "text" && equals < text.size()) row.default_value = std::string(fallback);
  } else {
    row.values = parts_of(type, '|');
    if (row.values.size() < 2)
      throw Error("\"{}\": expected int, float, dtype, text or one|two, got \"{}\"", text, type);
    row.default_value = std::string(row.values[0]);
  }
  return row;
}

void add_aliases(OpRow& row, std::string_view text) {
  for (const auto alias : parts_of(text, ' ')) {
    const auto names = parts_of(alias, '=');
    const auto result = names.size() == 2 ? row.find_result(names[0]) : std::nullopt;
    const auto operand = names.size() == 2 ? row.find_operand(names[1]) : std::nullopt;
    if (!result || !operand)
      throw Error("\"{}\": expected RESULT=OPERAND of the results {} and the operands {}", alias,
                  roles_text(row.results), roles_text(row.operands));
    row.aliases.emplace_back(*result, *operand);
  }
}

void add_attrs(OpRow& row, std::string_view text) {
  for (const auto attr : parts_of(text, ' ')) row.attrs.push_back(attr_row_of(attr));
}

OpRow make_row(Op op, std::string_view name, OpClass op_class, std::string_view operands,
               std::string_view results, std::string_view aliases, std::string_view attrs) {
  OpRow row{op, name, op_class, roles_of(operands), roles_of(results), {}, {}};
  add_aliases(row, aliases);
  add_attrs(row, attrs);
  return row;
}

const std::vector<OpRow>& op_table() {
  static const std::vector<OpRow> table{
#define GRAPH_OP(name, op_class, operands, results, aliases, attrs) \
  make_row(Op::name, #name, OpClass::op_class, operands, results, aliases, attrs),
#include "graph/ops.def"
#undef GRAPH_OP
  };
  return table;
}

// ---- a user's row

template <typename Rows>
void check_each_once(const Rows& rows) {
  for (const auto& row : rows)
    if (std::ranges::count_if(rows, [&](const auto& other) { return other.name == row.name; }) > 1)
      throw Error("{} is there twice", row.name);
}

// What a type names must be there: operands that it is as, attributes that are sizes, and of
// results the letters too.
void check_type(const OpRow& row, const Role& role, bool is_result) {
  const auto& type = role.type;
  if (!type.like.empty() && !row.find_operand(type.like))
    throw Error("{}: there is no operand {} that it could be as; there are {}", role.name,
                type.like, roles_text(row.operands));
  const auto binds = [&](std::string_view letter) {
    return std::ranges::any_of(row.operands, [&](const Role& operand) {
      return !operand.is_optional && operand.type.dims &&
             std::ranges::any_of(*operand.type.dims,
                                 [&](const DimPattern& dim) { return dim.text == letter; });
    });
  };
  constexpr std::string_view kStepSizes = "TSRLQ";
  const auto check = [&](const DimPattern& dim, std::string_view name) {
    if (is_letter(name)) {
      if (is_result && !binds(name) && kStepSizes.find(name) == std::string_view::npos)
        throw Error(
            "result {}: no operand has the dimension {}, so that the size \"{}\" is unknown",
            role.name, name, dim.text);
      return;
    }
    const auto* attr = row.find_attr(name);
    if (attr == nullptr || attr->type != AttrType::integer)
      throw Error("{}: dimension \"{}\": expected a letter or an attribute of type int, got {}",
                  role.name, dim.text, name);
  };
  for (const auto& dim : type.dims.value_or(std::vector<DimPattern>{})) {
    if (dim.name == "...") {
      if (is_result) throw Error("result {}: expected its dimensions, got ...", role.name);
    } else if (dim.expression) {
      for (const auto& symbol : dim.expression->symbols()) check(dim, symbol);
    } else if (!dim.name.empty()) {
      check(dim, dim.name);
    }
  }
}

// A kernel is bound to roles by name, and its results have the shapes that the row says.
void check_roles(const OpRow& row, const std::vector<Role>& roles, bool is_result) {
  if (roles.empty()) throw Error("expected at least one");
  check_each_once(roles);
  for (const auto& role : roles) {
    if (role.is_variadic || (is_result && role.is_optional))
      throw Error("{}: expected {}", role.name,
                  is_result ? "a result that is always there" : "one operand a role, without ...");
    if (is_result && role.type.like.empty() && (!role.type.dtype || !role.type.dims))
      throw Error("result {}: expected an element type and dimensions, or =OPERAND, got \"{}\"",
                  role.name, role.type.text);
    check_type(row, role, is_result);
  }
}

// ---- attributes

std::string listed(const std::vector<std::string_view>& names, std::string_view last_separator) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += fmt::format("{}{}",
                        i == 0                  ? ""
                        : i + 1 == names.size() ? last_separator
                                                : ", ",
                        names[i]);
  return text;
}

std::string expected(const AttrRow& attr) {
  switch (attr.type) {
    case AttrType::integer:
      return "an integer";
    case AttrType::real:
      return "a finite number";
    case AttrType::dtype:
      return "an element type";
    case AttrType::text:
      return "a text in quotes";
    case AttrType::word:
      return listed(attr.values, " or ");
  }
  NEREID_UNREACHABLE("attribute {}", attr.name);
}

bool is_of_type(const AttrRow& attr, const Attr& value) {
  const auto* text = std::get_if<std::string>(&value);
  const auto* real = std::get_if<double>(&value);
  switch (attr.type) {
    case AttrType::integer:
      return std::holds_alternative<std::int64_t>(value);
    case AttrType::real:
      return real != nullptr && std::isfinite(*real);
    case AttrType::dtype:
      return std::holds_alternative<DType>(value);
    case AttrType::text:
      return text != nullptr;
    case AttrType::word:
      return text != nullptr && std::ranges::find(attr.values, *text) != attr.values.end();
  }
  NEREID_UNREACHABLE("attribute {}", attr.name);
}

Attr converted(const OpRow& row, const AttrRow& attr, Attr value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value);
      integer != nullptr && attr.type == AttrType::real)
    value = static_cast<double>(*integer);
  if (!is_of_type(attr, value))
    throw Error("{}: attribute {}: expected {}, got {}", row.name, attr.name, expected(attr),
                attr_text(value));
  return value;
}

std::optional<std::size_t> role_index(const std::vector<Role>& roles, std::string_view name) {
  const auto it = std::ranges::find(roles, name, &Role::name);
  if (it == roles.end()) return std::nullopt;
  return static_cast<std::size_t>(it - roles.begin());
}

}  // namespace

std::optional<std::size_t> OpRow::find_operand(std::string_view role) const {
  return role_index(operands, role);
}

std::optional<std::size_t> OpRow::find_result(std::string_view role) const {
  return role_index(results, role);
}

const AttrRow* OpRow::find_attr(std::string_view attr) const {
  const auto it = std::ranges::find(attrs, attr, &AttrRow::name);
  return it == attrs.end() ? nullptr : &*it;
}

const OpRow& op_row(Op op) {
  NEREID_CHECK(op != Op::own, "a user's operation has its row at the node");
  return op_table()[static_cast<std::size_t>(op)];
}

std::optional<Op> op_from_name(std::string_view name) {
  for (const auto& row : op_table())
    if (row.name == name) return row.op;
  return std::nullopt;
}

bool is_dimension(const OpRow& row, std::string_view attr) {
  const auto reads = [&](const Role& role) {
    return role.type.dims && std::ranges::any_of(*role.type.dims, [&](const DimPattern& dim) {
             return dim.expression ? std::ranges::count(dim.expression->symbols(), attr) > 0
                                   : dim.name == attr;
           });
  };
  return std::ranges::any_of(row.operands, reads) || std::ranges::any_of(row.results, reads);
}

std::string roles_text(const std::vector<Role>& roles) {
  std::string text;
  for (const auto& role : roles)
    text += fmt::format("{}{}{}", text.empty() ? "" : ", ", role.name,
                        role.is_optional   ? "?"
                        : role.is_variadic ? "..."
                                           : "");
  return text;
}

std::string attr_text(const Attr& attr) {
  if (const auto* integer = std::get_if<std::int64_t>(&attr)) return fmt::format("{}", *integer);
  if (const auto* dtype = std::get_if<DType>(&attr)) return std::string(dtype_name(*dtype));
  if (const auto* text = std::get_if<std::string>(&attr)) return fmt::format("\"{}\"", *text);
  auto text = fmt::format("{}", std::get<double>(attr));
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

// The texts that a row's views are of, and the row.
struct OpTable::Held {
  explicit Held(kernel::OwnRow text) : texts(std::move(text)) {
    const auto read = [](const kernel::OwnRow::Part& part, const char* name, const auto& reader) {
      try {
        reader();
      } catch (const Error& error) {
        throw Error("{}: {}: {}", part.where, name, error.what());
      }
    };
    row.op = Op::own;
    row.op_class = OpClass::opaque;
    row.name = texts.name.text;
    read(texts.name, "op", [&] { checked_name(row.name, row.name); });
    read(texts.operands, "operands", [&] { row.operands = roles_of(texts.operands.text); });
    read(texts.results, "results", [&] { row.results = roles_of(texts.results.text); });
    read(texts.attributes, "attributes", [&] {
      add_attrs(row, texts.attributes.text);
      check_each_once(row.attrs);
    });
    read(texts.aliases, "in_place", [&] { add_aliases(row, texts.aliases.text); });
    read(texts.operands, "operands", [&] { check_roles(row, row.operands, false); });
    read(texts.results, "results", [&] { check_roles(row, row.results, true); });
  }

  const kernel::OwnRow texts;
  OpRow row;
};

void OpTable::add(const kernel::OwnRow& row) {
  if (op_from_name(row.name.text))
    throw Error("{}: op {}: this program has an operation of that name; choose another",
                row.name.where, row.name.text);
  const auto it = own_.find(row.name.text);
  if (it == own_.end()) {
    own_.emplace(row.name.text, std::make_shared<const Held>(row));
  } else if (!it->second->texts.has_same_words(row)) {
    throw Error("{}: op {}: its row is another than that of {}; expected the same, word for word",
                row.name.where, row.name.text, it->second->texts.name.where);
  }
}

std::optional<OpRef> OpTable::find(std::string_view name) const {
  if (const auto op = op_from_name(name)) return OpRef{*op};
  const auto it = own_.find(name);
  if (it == own_.end()) return std::nullopt;
  return OpRef{Op::own, std::shared_ptr<const OpRow>(it->second, &it->second->row)};
}

std::string OpTable::own_text() const {
  std::vector<std::string_view> names;
  for (const auto& [name, held] : own_) names.push_back(name);
  return listed(names, ", ");
}

Attrs canonical_attrs(const OpRow& row, const Attrs& given) {
  for (const auto& [name, value] : given) {
    if (row.find_attr(name) == nullptr) {
      std::vector<std::string_view> names;
      for (const auto& attr : row.attrs) names.push_back(attr.name);
      throw Error("{}: there is no attribute {}; expected {}", row.name, name,
                  names.empty() ? "none" : listed(names, ", "));
    }
    if (std::ranges::count(given, name, &Attrs::value_type::first) > 1)
      throw Error("{}: attribute {} is given twice", row.name, name);
  }
  Attrs canonical;
  for (const auto& attr : row.attrs) {
    const auto it = std::ranges::find(given, attr.name, &Attrs::value_type::first);
    if (it == given.end()) continue;
    auto value = converted(row, attr, it->second);
    if (attr.default_value != value) canonical.emplace_back(attr.name, std::move(value));
  }
  return canonical;
}

}  // namespace nereid::graph
