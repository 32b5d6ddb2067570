#include "chat/jinja/expression_parser.h"

#include <array>
#include <charconv>
#include <cstdlib>

#include "chat/jinja/filters.h"
#include "chat/jinja/tests.h"

namespace nereid::chat::jinja {

namespace {

constexpr const char* kNested = "expressions";

bool starts_test_argument(const TokenStream& tokens) {
  switch (tokens.current().kind) {
    case TokenKind::kString:
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return true;
    case TokenKind::kName:
      return !tokens.at_name("else") && !tokens.at_name("or") && !tokens.at_name("and");
    default:
      return tokens.at_operator("[") || tokens.at_operator("{");
  }
}

bool is_comparison(const Token& token) {
  constexpr std::array<std::string_view, 6> kOperators = {"==", "!=", "<", "<=", ">", ">="};
  if (token.kind != TokenKind::kOperator) return false;
  for (const auto name : kOperators)
    if (token.text == name) return true;
  return false;
}

}  // namespace

ExprPointer ExpressionParser::make(ExprKind kind, std::vector<ExprPointer> children) const {
  auto made = std::make_unique<Expr>();
  made->kind = kind;
  made->line = tokens_.line();
  made->children = std::move(children);
  return made;
}

template <typename... Pointers>
ExprPointer ExpressionParser::node(ExprKind kind, int line, Pointers... children) const {
  ExprPointer made = make(kind);
  made->line = line;
  (made->children.push_back(std::move(children)), ...);
  return made;
}

void ExpressionParser::link() {
  if (++links_ > kMaxLinks)
    throw Error("line {}: an expression has more than {} parts", tokens_.line(), kMaxLinks);
}

ExprPointer ExpressionParser::expression(bool with_condition) {
  if (depth_ == 0) links_ = 0;
  const Nesting nesting(depth_, limits_.depth, kNested);
  if (!with_condition) return any_of();
  ExprPointer value = any_of();
  while (tokens_.at_name("if")) {
    link();
    const int line = tokens_.next().line;
    ++conditions;
    ExprPointer condition = any_of();
    ExprPointer otherwise;
    if (tokens_.skip_name("else")) otherwise = expression();
    --conditions;
    value = node(ExprKind::kCondition, line, std::move(condition), std::move(value),
                 std::move(otherwise));
  }
  return value;
}

ExprPointer ExpressionParser::tuple(bool with_condition, std::string_view end_name) {
  std::vector<ExprPointer> items;
  bool is_tuple = false;
  const int line = tokens_.line();
  while (true) {
    if (!items.empty()) tokens_.expect_operator(",");
    if (tokens_.at(TokenKind::kVariableEnd) || tokens_.at(TokenKind::kBlockEnd) ||
        tokens_.at_operator(")") || (!end_name.empty() && tokens_.at_name(end_name)))
      break;
    items.push_back(expression(with_condition));
    if (!tokens_.at_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) {
    ExprPointer made = make(ExprKind::kTuple, std::move(items));
    made->line = line;
    return made;
  }
  if (items.empty()) tokens_.fail("an expression");
  return std::move(items.front());
}

ExprPointer ExpressionParser::any_of() {
  ExprPointer left = all_of();
  while (tokens_.at_name("or")) {
    link();
    const int line = tokens_.next().line;
    left = node(ExprKind::kOr, line, std::move(left), all_of());
  }
  return left;
}

ExprPointer ExpressionParser::all_of() {
  ExprPointer left = negation();
  while (tokens_.at_name("and")) {
    link();
    const int line = tokens_.next().line;
    left = node(ExprKind::kAnd, line, std::move(left), negation());
  }
  return left;
}

ExprPointer ExpressionParser::negation() {
  if (!tokens_.at_name("not")) return comparison();
  const Nesting nesting(depth_, limits_.depth, kNested);
  const int line = tokens_.next().line;
  return node(ExprKind::kNot, line, negation());
}

ExprPointer ExpressionParser::comparison() {
  ExprPointer first = sum();
  ExprPointer whole;
  while (true) {
    std::string name;
    const int line = tokens_.line();
    if (is_comparison(tokens_.current())) {
      name = tokens_.next().text;
    } else if (tokens_.at_name("in")) {
      tokens_.next();
      name = "in";
    } else if (tokens_.at_name("not") && tokens_.look().kind == TokenKind::kName &&
               tokens_.look().text == "in") {
      tokens_.next();
      tokens_.next();
      name = "not in";
    } else {
      return whole ? std::move(whole) : std::move(first);
    }
    if (!whole) whole = node(ExprKind::kCompare, line, std::move(first));
    whole->names.push_back(std::move(name));
    whole->children.push_back(sum());
  }
}

ExprPointer ExpressionParser::sum() {
  ExprPointer left = concatenation();
  while (tokens_.at_operator("+") || tokens_.at_operator("-")) {
    link();
    const Token sign = tokens_.next();
    left = node(ExprKind::kBinary, sign.line, std::move(left), concatenation());
    left->name = sign.text;
  }
  return left;
}

ExprPointer ExpressionParser::concatenation() {
  ExprPointer first = product();
  if (!tokens_.at_operator("~")) return first;
  ExprPointer whole = node(ExprKind::kConcat, tokens_.line(), std::move(first));
  while (tokens_.skip_operator("~")) whole->children.push_back(product());
  return whole;
}

ExprPointer ExpressionParser::product() {
  ExprPointer left = power();
  while (tokens_.at_operator("*") || tokens_.at_operator("/") || tokens_.at_operator("//") ||
         tokens_.at_operator("%")) {
    link();
    const Token sign = tokens_.next();
    left = node(ExprKind::kBinary, sign.line, std::move(left), power());
    left->name = sign.text;
  }
  return left;
}

ExprPointer ExpressionParser::power() {
  ExprPointer left = unary(true);
  while (tokens_.at_operator("**")) {
    link();
    const Token sign = tokens_.next();
    left = node(ExprKind::kBinary, sign.line, std::move(left), unary(true));
    left->name = sign.text;
  }
  return left;
}

ExprPointer ExpressionParser::unary(bool with_filters) {
  const Nesting nesting(depth_, limits_.depth, kNested);
  ExprPointer value;
  if (tokens_.at_operator("-") || tokens_.at_operator("+")) {
    const Token sign = tokens_.next();
    value =
        node(sign.text == "-" ? ExprKind::kNegative : ExprKind::kPositive, sign.line, unary(false));
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  return with_filters ? filter_chain(std::move(value)) : std::move(value);
}

ExprPointer ExpressionParser::parenthesized() {
  const int line = tokens_.line();
  tokens_.expect_operator("(");
  ExprPointer made;
  if (tokens_.at_operator(")"))
    made = node(ExprKind::kTuple, line);
  else
    made = tuple(true);
  tokens_.expect_operator(")");
  return made;
}

ExprPointer ExpressionParser::dict() {
  ExprPointer made = node(ExprKind::kDict, tokens_.line());
  tokens_.expect_operator("{");
  while (!tokens_.at_operator("}")) {
    if (!made->children.empty()) tokens_.expect_operator(",");
    if (tokens_.at_operator("}")) break;
    made->children.push_back(expression());
    tokens_.expect_operator(":");
    made->children.push_back(expression());
  }
  tokens_.expect_operator("}");
  return made;
}

ExprPointer ExpressionParser::primary() {
  ExprPointer made = node(ExprKind::kConst, tokens_.line());
  switch (tokens_.current().kind) {
    case TokenKind::kName: {
      std::string name = tokens_.next().text;
      if (name == "true" || name == "True") {
        made->value = Value(true);
      } else if (name == "false" || name == "False") {
        made->value = Value(false);
      } else if (name == "none" || name == "None") {
        made->value = Value::none();
      } else {
        if (macros > 0 && (name == "varargs" || name == "kwargs" || name == "caller"))
          throw Error("line {}: '{}' of a macro is not supported", made->line, name);
        made->kind = ExprKind::kName;
        made->name = std::move(name);
      }
      return made;
    }
    case TokenKind::kString: {
      std::string text;
      while (tokens_.at(TokenKind::kString)) text += tokens_.next().text;
      made->value = Value(std::move(text));
      return made;
    }
    case TokenKind::kInteger: {
      const std::string text = tokens_.next().text;
      std::int64_t number = 0;
      const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
      if (result.ec != std::errc())
        throw Error("line {}: the integer {} has more than 64 bits", made->line,
                    text.substr(0, 40));
      made->value = Value(number);
      return made;
    }
    case TokenKind::kFloat:
      made->value = Value(std::strtod(tokens_.next().text.c_str(), nullptr));
      return made;
    default:
      break;
  }
  if (tokens_.at_operator("(")) return parenthesized();
  if (tokens_.at_operator("{")) return dict();
  if (!tokens_.at_operator("[")) tokens_.fail("an expression");
  tokens_.next();
  made->kind = ExprKind::kList;
  while (!tokens_.at_operator("]")) {
    if (!made->children.empty()) tokens_.expect_operator(",");
    if (tokens_.at_operator("]")) break;
    made->children.push_back(expression());
  }
  tokens_.expect_operator("]");
  return made;
}

ExprPointer ExpressionParser::postfix(ExprPointer value) {
  while (true) {
    link();
    const int line = tokens_.line();
    if (tokens_.skip_operator(".")) {
      const bool is_name = tokens_.at(TokenKind::kName);
      if (!is_name && !tokens_.at(TokenKind::kInteger)) tokens_.fail("a name behind the dot");
      if (is_name) {
        value = node(ExprKind::kAttribute, line, std::move(value));
        value->name = tokens_.next().text;
      } else {
        value = node(ExprKind::kItem, line, std::move(value), primary());
      }
    } else if (tokens_.at_operator("[")) {
      value = subscript(std::move(value));
    } else if (tokens_.at_operator("(")) {
      value = node(ExprKind::kCall, line, std::move(value));
      call_arguments(*value);
    } else {
      return value;
    }
  }
}

ExprPointer ExpressionParser::subscript(ExprPointer value) {
  const int line = tokens_.line();
  tokens_.expect_operator("[");
  std::array<ExprPointer, 3> parts;
  std::size_t n_colons = 0;
  while (!tokens_.at_operator("]")) {
    if (tokens_.skip_operator(":")) {
      if (++n_colons > 2) tokens_.fail("]");
    } else {
      if (parts[n_colons] || tokens_.at_operator(",")) tokens_.fail("] or :");
      parts[n_colons] = expression();
    }
  }
  tokens_.expect_operator("]");
  if (n_colons > 0)
    return node(ExprKind::kSlice, line, std::move(value), std::move(parts[0]), std::move(parts[1]),
                std::move(parts[2]));
  if (!parts[0]) tokens_.fail("an index");
  return node(ExprKind::kItem, line, std::move(value), std::move(parts[0]));
}

void ExpressionParser::call_arguments(Expr& call) {
  tokens_.expect_operator("(");
  bool is_first = true;
  while (!tokens_.at_operator(")")) {
    if (!is_first) {
      tokens_.expect_operator(",");
      if (tokens_.at_operator(")")) break;
    }
    is_first = false;
    if (tokens_.at_operator("*") || tokens_.at_operator("**"))
      throw Error("line {}: {} of a call is not supported", tokens_.line(), tokens_.current().text);
    if (tokens_.at(TokenKind::kName) && tokens_.look().kind == TokenKind::kOperator &&
        tokens_.look().text == "=") {
      std::string name = tokens_.next().text;
      tokens_.next();
      for (const auto& [other, value] : call.named)
        if (other == name) throw Error("line {}: '{}' is given twice", tokens_.line(), name);
      call.named.emplace_back(std::move(name), expression());
    } else {
      if (!call.named.empty()) tokens_.fail("no positional argument behind a named one");
      call.children.push_back(expression());
    }
  }
  tokens_.expect_operator(")");
}

ExprPointer ExpressionParser::filters(ExprPointer input, bool first_is_written) {
  if (depth_ == 0) links_ = 0;
  bool has_sign = first_is_written;
  while (!has_sign || tokens_.at_operator("|")) {
    link();
    if (has_sign) tokens_.next();
    has_sign = true;
    ExprPointer filter = node(ExprKind::kFilter, tokens_.line(), std::move(input));
    filter->name = tokens_.expect(TokenKind::kName, "the name of a filter").text;
    while (tokens_.skip_operator("."))
      filter->name += "." + tokens_.expect(TokenKind::kName, "a name").text;
    if (conditions == 0 && find_filter(filter->name) == nullptr)
      throw Error("line {}: the filter '{}' is not supported", filter->line, filter->name);
    if (tokens_.at_operator("(")) call_arguments(*filter);
    input = std::move(filter);
  }
  return input;
}

ExprPointer ExpressionParser::test(ExprPointer value) {
  const int line = tokens_.next().line;  // is
  const bool is_negated = tokens_.skip_name("not");
  ExprPointer made = node(ExprKind::kTest, line, std::move(value));
  made->name = tokens_.expect(TokenKind::kName, "the name of a test").text;
  while (tokens_.skip_operator("."))
    made->name += "." + tokens_.expect(TokenKind::kName, "a name").text;
  if (conditions == 0 && find_test(made->name) == nullptr)
    throw Error("line {}: the test '{}' is not supported", line, made->name);
  if (tokens_.at_operator("(")) {
    call_arguments(*made);
  } else if (starts_test_argument(tokens_)) {
    if (tokens_.at_name("is")) tokens_.fail("one test; two cannot be chained");
    made->children.push_back(postfix(primary()));
  }
  return is_negated ? node(ExprKind::kNot, line, std::move(made)) : std::move(made);
}

ExprPointer ExpressionParser::filter_chain(ExprPointer value) {
  while (true) {
    link();
    if (tokens_.at_operator("|")) {
      value = filters(std::move(value), true);
    } else if (tokens_.at_name("is")) {
      value = test(std::move(value));
    } else if (tokens_.at_operator("(")) {
      const int line = tokens_.line();
      value = node(ExprKind::kCall, line, std::move(value));
      call_arguments(*value);
    } else {
      return value;
    }
  }
}

}  // namespace nereid::chat::jinja
