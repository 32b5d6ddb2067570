#include "graph/ops.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <ranges>

#include "base/error.h"

namespace nereid::graph {

namespace {

// ---- ops.def, read once

std::vector<std::string_view> parts_of(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const auto end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

template <typename Number>
Number number_of(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  NEREID_CHECK(error == std::errc{} && end == text.data() + text.size(), "ops.def: \"{}\"", text);
  return number;
}

DimPattern dim_pattern_of(std::string_view text) {
  const auto name = text.substr(0, text.find_first_of("/+"));
  if (std::isdigit(static_cast<unsigned char>(name[0])) != 0)
    return {.name = {}, .offset = number_of<std::int64_t>(text)};
  if (const auto plus = text.find('+'); plus != std::string_view::npos)
    return {.name = name, .offset = number_of<std::int64_t>(text.substr(plus + 1))};
  return {.name = name, .is_half = text.ends_with("/2")};
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
  NEREID_CHECK(
      type.dtype || type.is_float || !type.like.empty() || element.empty() || element == "any",
      "ops.def: \"{}\"", text);
  if (bracket == text.size()) return type;
  type.dims.emplace();
  for (const auto dim : parts_of(text.substr(bracket + 1, text.size() - bracket - 2), ','))
    type.dims->push_back(dim_pattern_of(dim));
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
    role.name = name;
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
  AttrRow row{text.substr(0, colon), AttrType::word, {}, {}};
  if (type == "int") {
    row.type = AttrType::integer;
    row.default_value = number_of<std::int64_t>(fallback);
  } else if (type == "float") {
    row.type = AttrType::real;
    row.default_value = number_of<double>(fallback);
  } else if (type == "dtype" || type == "text") {
    row.type = type == "dtype" ? AttrType::dtype : AttrType::text;
    if (type == "text" && equals < text.size()) row.default_value = std::string(fallback);
  } else {
    row.values = parts_of(type, '|');
    row.default_value = std::string(row.values[0]);
  }
  return row;
}

OpRow make_row(Op op, std::string_view name, OpClass op_class, std::string_view operands,
               std::string_view results, std::string_view aliases, std::string_view attrs) {
  OpRow row{op, name, op_class, roles_of(operands), roles_of(results), {}, {}};
  for (const auto alias : parts_of(aliases, ' ')) {
    const auto names = parts_of(alias, '=');
    row.aliases.emplace_back(row.find_result(names[0]).value(), row.find_operand(names[1]).value());
  }
  for (const auto attr : parts_of(attrs, ' ')) row.attrs.push_back(attr_row_of(attr));
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

const OpRow& op_row(Op op) { return op_table()[static_cast<std::size_t>(op)]; }

std::optional<Op> op_from_name(std::string_view name) {
  for (const auto& row : op_table())
    if (row.name == name) return row.op;
  return std::nullopt;
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

Attrs canonical_attrs(Op op, const Attrs& given) {
  const auto& row = op_row(op);
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
