#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "parser.h"

namespace nereid::ttir {
namespace {

constexpr std::array kScalars = {
    Scalar::i1,       Scalar::i8,     Scalar::i16,        Scalar::i32,       Scalar::i64,
    Scalar::index,    Scalar::f16,    Scalar::bf16,       Scalar::f32,       Scalar::f64,
    Scalar::f8e4m3fn, Scalar::f8e5m2, Scalar::f8e4m3fnuz, Scalar::f8e5m2fnuz};

// Types that Triton has and this compiler refuses, with what to do instead.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kRefusedTypes = {{
    {"tt.tensordesc", "a tensor descriptor; expected Triton to have made it pointers"},
    {"ttg.memdesc", "this is Triton GPU IR; expected Triton IR from before the GPU passes"},
    {"ttg.async.token", "this is Triton GPU IR; expected Triton IR from before the GPU passes"},
}};

bool is_closing(const Token& token) {
  return token.kind == TokenKind::punctuation &&
         (token.text == ")" || token.text == "]" || token.text == "}" || token.text == ">");
}

bool is_opening(const Token& token) {
  return token.kind == TokenKind::punctuation &&
         (token.text == "(" || token.text == "[" || token.text == "{" || token.text == "<");
}

}  // namespace

Type Parser::element_type() {
  Type type;
  if (token_.kind == TokenKind::bang) {
    for (const auto& [name, cure] : kRefusedTypes) {
      if (token_.text == name) fail("type !{}: {}", name, cure);
    }
    if (token_.text != "tt.ptr") fail("unknown type !{}", token_.text);
    advance();
    expect("<");
    if (token_.kind != TokenKind::word)
      fail("expected the type a pointer points at, got {}", got());
    type = element_type();
    type.is_pointer = true;
    if (accept(",")) advance();  // the address space says nothing on a CPU
    expect(">");
    return type;
  }
  if (token_.kind != TokenKind::word) fail("expected a type, got {}", got());
  const auto* scalar = std::find_if(kScalars.begin(), kScalars.end(), [&](Scalar candidate) {
    return scalar_text(candidate) == token_.text;
  });
  if (scalar == kScalars.end()) {
    fail("unknown type '{}'; expected i1 to i64, index, f16, bf16, f32, f64 or an 8-bit float",
         token_.text);
  }
  type.scalar = *scalar;
  advance();
  return type;
}

Type Parser::type() {
  if (!at_word("tensor")) return element_type();
  advance();
  if (!at("<")) fail("expected '<' after tensor, got {}", got());
  advance();
  std::vector<std::int64_t> shape = lexer_.shape_from(token_);
  advance();
  if (shape.empty()) {
    fail("a tensor without dimensions or of unknown size; expected one such as tensor<16x32xf32>");
  }
  Type type = element_type();
  if (at(",")) fail("a tensor with a layout: this is Triton GPU IR; expected Triton IR");
  expect(">");
  type.shape = std::move(shape);
  return type;
}

Parser::Types Parser::type_list() {
  Types types = {type()};
  while (accept(",")) types.push_back(type());
  return types;
}

Parser::Types Parser::types_in_parentheses() {
  expect("(");
  if (accept(")")) return {};
  Types types = type_list();
  expect(")");
  return types;
}

Parser::Types Parser::result_types() {
  if (at("(")) return types_in_parentheses();
  return {type()};
}

// The offset behind the closing bracket.
std::size_t Parser::skip_balanced(std::string_view opening, std::string_view closing) {
  expect(opening);
  std::size_t depth = 1;
  std::size_t end = token_.begin;
  while (depth > 0) {
    if (token_.kind == TokenKind::end) fail("expected '{}' before the end of the text", closing);
    depth += is_opening(token_) ? 1 : 0;
    depth -= is_closing(token_) ? 1 : 0;
    end = token_.end;
    advance();
  }
  return end;
}

// Anything up to the `,` or closing bracket that ends it; its text.
std::string Parser::skip_value() {
  const std::size_t begin = token_.begin;
  std::size_t end = begin;
  std::size_t depth = 0;
  while (depth > 0 || !(at(",") || is_closing(token_))) {
    if (token_.kind == TokenKind::end) fail("an attribute goes on to the end of the text");
    depth += is_opening(token_) ? 1 : 0;
    depth -= is_closing(token_) ? 1 : 0;
    end = token_.end;
    advance();
  }
  if (end == begin) fail("expected an attribute value, got {}", got());
  return std::string(lexer_.text().substr(begin, end - begin));
}

// One word, alias or type with its brackets, such as tf32, i32, #tt.x<y>; its text.
std::string Parser::skip_element() {
  const std::size_t begin = token_.begin;
  std::size_t end = token_.end;
  if (token_.kind != TokenKind::word && token_.kind != TokenKind::hash &&
      token_.kind != TokenKind::bang && token_.kind != TokenKind::symbol) {
    return skip_value();
  }
  advance();
  for (const auto& [opening, closing] : {std::pair{"<", ">"}, std::pair{"(", ")"}}) {
    if (!at(opening)) continue;
    end = skip_balanced(opening, closing);
    break;
  }
  return std::string(lexer_.text().substr(begin, end - begin));
}

void Parser::skip_location() {
  if (accept_word("loc")) skip_balanced("(", ")");
}

void Parser::skip_attribute_type() {
  if (token_.kind != TokenKind::word && token_.kind != TokenKind::bang) {
    fail("expected a type, got {}", got());
  }
  advance();
  if (at("<")) skip_balanced("<", ">");
}

std::int64_t Parser::integer() {
  const Token token = token_;
  Attr value = number();
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  fail_at(token.line, fmt::format("expected an integer, got '{}'", token.text));
}

// [-]12, [-]0xFF, [-]1.5e3, true, false. Integers of 64 bits without a sign keep their bits.
Attr Parser::number() {
  if (accept_word("true")) return std::int64_t{1};
  if (accept_word("false")) return std::int64_t{0};
  const bool negative = accept("-");
  const Token token = token_;
  const char* const end = token.text.data() + token.text.size();
  if (token.kind == TokenKind::floating) {
    double value = 0;
    const auto [last, error] = std::from_chars(token.text.data(), end, value);
    if (error != std::errc() || last != end) fail("'{}' is no float of 64 bits", token.text);
    advance();
    return negative ? -value : value;
  }
  if (token.kind != TokenKind::integer) fail("expected a number, got {}", got());
  const bool is_hex = token.text.starts_with("0x");
  std::uint64_t value = 0;
  const auto [last, error] =
      std::from_chars(token.text.data() + (is_hex ? 2 : 0), end, value, is_hex ? 16 : 10);
  const bool fits = !negative || value <= std::uint64_t{1} << 63;
  if (error != std::errc() || last != end || !fits) {
    fail("'{}{}' does not fit 64 bits", negative ? "-" : "", token.text);
  }
  advance();
  return static_cast<std::int64_t>(negative ? 0 - value : value);
}

Attr Parser::integer_list(std::string_view closing) {
  std::vector<std::int64_t> list;
  if (!at(closing)) {
    do {
      list.push_back(integer());
      if (accept(":")) skip_attribute_type();
    } while (accept(","));
  }
  expect(closing);
  return list;
}

Attr Parser::attribute_value() {
  const bool is_bool = at_word("true") || at_word("false");
  if (is_bool || at("-") || token_.kind == TokenKind::integer ||
      token_.kind == TokenKind::floating) {
    Attr value = number();
    if (accept(":")) skip_attribute_type();
    return value;
  }
  if (token_.kind == TokenKind::string) return unescape(take(TokenKind::string, "a string"));
  if (accept_word("array")) {
    expect("<");
    skip_attribute_type();
    if (accept(">")) return std::vector<std::int64_t>{};
    expect(":");
    return integer_list(">");
  }
  if (accept_word("dense")) {
    expect("<");
    const bool is_list = accept("[");
    Attr list = integer_list(is_list ? "]" : ">");
    if (is_list) expect(">");
    if (accept(":")) skip_attribute_type();
    return list;
  }
  if (accept("[")) {
    if (at("]") || at("-") || token_.kind == TokenKind::integer) return integer_list("]");
    std::string text = "[";
    while (!at("]")) {
      text += skip_value();
      if (accept(","))
        text += ", ";
      else if (!at("]"))
        fail("expected ',' or ']', got {}", got());
    }
    advance();
    return text + "]";
  }
  return skip_element();
}

void Parser::put(Op& op, std::string name, Attr value) {
  // One name for what Triton's versions spell differently.
  if (name == "isVolatile") name = "volatile";
  if (name == "cacheModifier" || name == "cache_modifier") name = "cache";
  if (name == "evictionPolicy" || name == "eviction_policy") name = "evict";
  if (op.attr(name) != nullptr) fail("{}: attribute {} is given twice", op_name_, name);
  op.attrs.emplace_back(std::move(name), std::move(value));
}

// #tt.cache_policy<cache_modifier = cg, eviction_policy = evict_first>
void Parser::cache_policy(Op& op) {
  advance();
  expect("<");
  while (!accept(">")) {
    std::string name = take(TokenKind::word, "a cache policy's field");
    expect("=");
    put(op, std::move(name), skip_value());
    if (!at(">")) expect(",");
  }
}

// name [= value]
void Parser::attribute(Op& op) {
  std::string name = token_.kind == TokenKind::string
                         ? unescape(take(TokenKind::string, "an attribute"))
                         : take(TokenKind::word, "an attribute");
  if (!accept("=")) return put(op, std::move(name), std::int64_t{1});
  if (token_.kind == TokenKind::hash && token_.text == "tt.cache_policy") return cache_policy(op);
  put(op, std::move(name), attribute_value());
}

void Parser::attribute_dictionary(Op& op) {
  expect("{");
  if (accept("}")) return;
  do attribute(op);
  while (accept(","));
  expect("}");
}

// [{attributes}] value | dense<value> : type
void Parser::constant(Op& op) {
  if (at("{")) attribute_dictionary(op);
  const bool is_splat = accept_word("dense");
  if (is_splat) expect("<");
  if (at("[") || token_.kind == TokenKind::string) {
    fail("{}: a list of values; expected one value for all elements", op_name_);
  }
  const Token token = token_;
  const Attr value = number();
  std::string_view text = lexer_.text().substr(token.begin, token_.begin - token.begin);
  text = text.substr(0, text.find_last_not_of(" \n") + 1);
  if (is_splat) expect(">");
  Type result;
  if (accept(":")) {
    result = type();
  } else if (!is_splat && token.kind == TokenKind::word) {
    result.scalar = Scalar::i1;  // `true` and `false` say their type
  } else {
    fail("{}: expected ':' and a type, got {}", op_name_, got());
  }
  if (result.is_pointer || is_splat != result.is_tensor()) {
    fail_at(token.line,
            fmt::format("{}: '{}' is no value of type {}", op_name_, text, type_text(result)));
  }
  put(op, "value", constant_as(value, text, token.line, result.scalar));
  add_result(op, std::move(result));
}

Attr Parser::constant_as(const Attr& value, std::string_view text, int line, Scalar scalar) const {
  const auto fail_range = [&] {
    fail_at(line, fmt::format("{}: '{}' does not fit {}", op_name_, text, scalar_text(scalar)));
  };
  if (const auto* number = std::get_if<double>(&value)) {
    if (!is_float(scalar)) fail_range();
    const double rounded = round_to(*number, scalar);
    if (!std::isfinite(rounded)) fail_range();
    return rounded;
  }
  const std::int64_t integer = std::get<std::int64_t>(value);
  const int n_bits = bit_width(scalar);
  const auto bits = static_cast<std::uint64_t>(integer);
  if (is_float(scalar)) {
    const bool is_hex = text.starts_with("0x");
    if (!is_hex || (n_bits < 64 && (bits >> n_bits) != 0)) fail_range();
    return float_from_bits(bits, scalar);
  }
  if (n_bits == 64) return integer;
  const std::int64_t lowest = -(std::int64_t{1} << (n_bits - 1));
  const std::int64_t span = std::int64_t{1} << n_bits;
  if (integer < lowest || integer >= span) fail_range();
  if (n_bits == 1) return std::int64_t{integer != 0};
  return integer >= span / 2 ? integer - span : integer;
}

}  // namespace nereid::ttir
