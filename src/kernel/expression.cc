#include "kernel/expression.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"

namespace nereid::kernel {

namespace {

// Deeper than any expression of ours; evaluation recurses this far at most, whatever the text.
constexpr int kMaxDepth = 100;
constexpr std::size_t kMaxText = 4096;

__extension__ using Wide = __int128;

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

Wide floor_divide(Wide a, Wide b) {
  const Wide quotient = a / b;
  return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Wide next_pow2(Wide a) {
  Wide power = 1;
  while (power < a) power *= 2;
  return power;
}

}  // namespace

// Recursive descent; each level of Python's precedence is one function.
class ExpressionParser {
 public:
  using Kind = Expression::Kind;
  using Node = Expression::Node;

  ExpressionParser(std::string_view text, const std::string& where, Expression& result)
      : text_(text), where_(where), result_(result) {}

  void parse() {
    if (text_.size() > kMaxText) fail("longer than {} characters", kMaxText);
    result_.text_ = text_;
    next();
    conditional();
    if (!token_.empty()) fail("unexpected \"{}\"", token_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error("{}: expression \"{}\", column {}: {}", where_, text_.substr(0, 200), start_ + 1,
                fmt::format(format, std::forward<Args>(args)...));
  }

  void next() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    start_ = at_;
    if (at_ == text_.size()) {
      token_ = {};
      return;
    }
    const char c = text_[at_];
    std::size_t length = 1;
    if (is_name_part(c)) {
      while (at_ + length < text_.size() && is_name_part(text_[at_ + length])) ++length;
    } else {
      const std::string_view pair = text_.substr(at_, 2);
      if (pair == "//" || pair == "==" || pair == "!=" || pair == "<=" || pair == ">=") length = 2;
      if (length == 1 && std::string_view("+-*%<>(),").find(c) == std::string_view::npos)
        fail("unexpected character '{}'", c);
    }
    token_ = text_.substr(at_, length);
    at_ += length;
  }

  bool take(std::string_view token) {
    if (token_ != token) return false;
    next();
    return true;
  }

  void expect(std::string_view token) {
    if (!take(token)) fail("expected \"{}\"", token);
  }

  std::uint32_t add(Node node, int depth) {
    if (depth > kMaxDepth) fail("nested deeper than {} levels", kMaxDepth);
    result_.nodes_.push_back(node);
    depths_.push_back(depth);
    return static_cast<std::uint32_t>(result_.nodes_.size() - 1);
  }
  std::uint32_t unary(Kind kind, std::uint32_t a) {
    return add({kind, 0, a, 0, 0}, depths_[a] + 1);
  }
  std::uint32_t binary(Kind kind, std::uint32_t a, std::uint32_t b) {
    return add({kind, 0, a, b, 0}, std::max(depths_[a], depths_[b]) + 1);
  }

  // Counts the levels of the parser itself, which prefixes deepen before they have a node.
  class Level {
   public:
    explicit Level(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.level_ > kMaxDepth) parser_.fail("nested deeper than {} levels", kMaxDepth);
    }
    ~Level() { --parser_.level_; }

   private:
    ExpressionParser& parser_;
  };

  std::uint32_t conditional() {
    const Level level(*this);
    const std::uint32_t then = logical_or();
    if (!take("if")) return then;
    const std::uint32_t condition = logical_or();
    expect("else");
    const std::uint32_t otherwise = conditional();
    const int depth = std::max({depths_[condition], depths_[then], depths_[otherwise]}) + 1;
    return add({Kind::select, 0, condition, then, otherwise}, depth);
  }

  std::uint32_t logical_or() {
    std::uint32_t a = logical_and();
    while (take("or")) a = binary(Kind::logical_or, a, logical_and());
    return a;
  }

  std::uint32_t logical_and() {
    std::uint32_t a = logical_not();
    while (take("and")) a = binary(Kind::logical_and, a, logical_not());
    return a;
  }

  std::uint32_t logical_not() {
    const Level level(*this);
    if (take("not")) return unary(Kind::logical_not, logical_not());
    return comparison();
  }

  std::uint32_t comparison() {
    const std::uint32_t a = sum();
    const auto kind = comparison_kind();
    if (!kind) return a;
    next();
    const std::uint32_t result = binary(*kind, a, sum());
    if (comparison_kind()) fail("comparisons cannot be chained; join them with \"and\"");
    return result;
  }

  std::optional<Kind> comparison_kind() const {
    constexpr std::array<std::pair<std::string_view, Kind>, 6> kKinds{
        {{"==", Kind::equal},
         {"!=", Kind::not_equal},
         {"<", Kind::less},
         {"<=", Kind::less_equal},
         {">", Kind::greater},
         {">=", Kind::greater_equal}}};
    for (const auto& [token, kind] : kKinds)
      if (token_ == token) return kind;
    return std::nullopt;
  }

  std::uint32_t sum() {
    std::uint32_t a = product();
    while (true) {
      if (take("+"))
        a = binary(Kind::add, a, product());
      else if (take("-"))
        a = binary(Kind::subtract, a, product());
      else
        return a;
    }
  }

  std::uint32_t product() {
    std::uint32_t a = negation();
    while (true) {
      if (take("*"))
        a = binary(Kind::multiply, a, negation());
      else if (take("//"))
        a = binary(Kind::floor_divide, a, negation());
      else if (take("%"))
        a = binary(Kind::modulo, a, negation());
      else
        return a;
    }
  }

  std::uint32_t negation() {
    const Level level(*this);
    if (take("-")) return unary(Kind::negate, negation());
    return atom();
  }

  std::uint32_t atom() {
    if (take("(")) {
      const std::uint32_t inner = conditional();
      expect(")");
      return inner;
    }
    const std::string_view token = token_;
    if (!token.empty() && is_digit(token[0])) {
      std::int64_t value = 0;
      const auto parsed = std::from_chars(token.data(), token.data() + token.size(), value);
      if (parsed.ec != std::errc() || parsed.ptr != token.data() + token.size())
        fail("\"{}\" is not a 64-bit decimal integer", token);
      next();
      return add({Kind::constant, value}, 1);
    }
    if (token.empty() || !is_name_start(token[0]) || token == "if" || token == "else" ||
        token == "and" || token == "or" || token == "not")
      fail("expected a number, a name or \"(\", got \"{}\"", token);
    next();
    return take("(") ? call(token) : symbol(std::string(token));
  }

  std::uint32_t call(std::string_view function) {
    if (function == "sizeof" || function == "typeof") {
      if (token_.empty() || !is_name_start(token_[0]))
        fail("{} takes one pointer parameter", function);
      const std::string name = fmt::format("{}({})", function, token_);
      next();
      expect(")");
      return symbol(name);
    }
    if (function == "next_pow2") {
      const std::uint32_t a = conditional();
      expect(")");
      return unary(Kind::next_pow2, a);
    }
    constexpr std::array<std::pair<std::string_view, Kind>, 3> kFunctions{
        {{"cdiv", Kind::cdiv}, {"min", Kind::min}, {"max", Kind::max}}};
    for (const auto& [name, kind] : kFunctions) {
      if (function != name) continue;
      const std::uint32_t a = conditional();
      expect(",");
      const std::uint32_t b = conditional();
      expect(")");
      return binary(kind, a, b);
    }
    fail("no function \"{}\"; there are cdiv, next_pow2, min, max, sizeof, typeof", function);
  }

  std::uint32_t symbol(const std::string& name) {
    auto& symbols = result_.symbols_;
    auto it = std::find(symbols.begin(), symbols.end(), name);
    if (it == symbols.end()) it = symbols.insert(symbols.end(), name);
    return add({Kind::symbol, it - symbols.begin()}, 1);
  }

  std::string_view text_;
  const std::string& where_;
  Expression& result_;
  std::string_view token_;  // empty: the end
  std::size_t start_ = 0, at_ = 0;
  std::vector<int> depths_;
  int level_ = 0;
};

Expression::Expression() : text_("0"), nodes_{{Kind::constant, 0}} {}

Expression Expression::parse(std::string_view text, const std::string& where) {
  Expression result;
  result.nodes_.clear();
  ExpressionParser(text, where, result).parse();
  return result;
}

Expression Expression::constant(std::int64_t value) {
  Expression result;
  result.text_ = std::to_string(value);
  result.nodes_[0].value = value;
  return result;
}

// What is not a number: division by zero, or a result that does not fit. The caller knows whether
// that is an error.
std::optional<std::int64_t> Expression::apply(Kind kind, std::int64_t a_narrow,
                                              std::int64_t b_narrow) {
  const Wide a = a_narrow, b = b_narrow;
  Wide result = 0;
  switch (kind) {
    case Kind::negate:
      result = -a;
      break;
    case Kind::logical_not:
      result = a == 0;
      break;
    case Kind::add:
      result = a + b;
      break;
    case Kind::subtract:
      result = a - b;
      break;
    case Kind::multiply:
      result = a * b;
      break;
    case Kind::floor_divide:
    case Kind::modulo:
    case Kind::cdiv:
      if (b == 0) return std::nullopt;
      result = kind == Kind::cdiv ? floor_divide(a + b - 1, b) : floor_divide(a, b);
      if (kind == Kind::modulo) result = a - result * b;
      break;
    case Kind::equal:
      result = a == b;
      break;
    case Kind::not_equal:
      result = a != b;
      break;
    case Kind::less:
      result = a < b;
      break;
    case Kind::less_equal:
      result = a <= b;
      break;
    case Kind::greater:
      result = a > b;
      break;
    case Kind::greater_equal:
      result = a >= b;
      break;
    case Kind::next_pow2:
      result = next_pow2(a);
      break;
    case Kind::min:
      result = std::min(a, b);
      break;
    case Kind::max:
      result = std::max(a, b);
      break;
    default:
      NEREID_UNREACHABLE("kind {}", static_cast<int>(kind));
  }
  if (result > INT64_MAX || result < INT64_MIN) return std::nullopt;
  return static_cast<std::int64_t>(result);
}

std::int64_t Expression::evaluate_node(std::uint32_t index,
                                       std::span<const std::int64_t> values) const {
  const Node& node = nodes_[index];
  switch (node.kind) {
    case Kind::constant:
      return node.value;
    case Kind::symbol:
      return values[static_cast<std::size_t>(node.value)];
    case Kind::select:
      return evaluate_node(evaluate_node(node.a, values) != 0 ? node.b : node.c, values);
    case Kind::logical_and:
      return evaluate_node(node.a, values) != 0 && evaluate_node(node.b, values) != 0;
    case Kind::logical_or:
      return evaluate_node(node.a, values) != 0 || evaluate_node(node.b, values) != 0;
    default:
      break;
  }
  const std::int64_t a = evaluate_node(node.a, values);
  const bool is_unary =
      node.kind == Kind::negate || node.kind == Kind::logical_not || node.kind == Kind::next_pow2;
  const std::int64_t b = is_unary ? 0 : evaluate_node(node.b, values);
  const auto result = apply(node.kind, a, b);
  if (!result)
    throw Error("expression \"{}\": division by zero or a result beyond 64 bits (operands {}, {})",
                text_, a, b);
  return *result;
}

std::int64_t Expression::evaluate(std::span<const std::int64_t> values) const {
  NEREID_CHECK(values.size() == symbols_.size(), "expression {}: {} values for {} names", text_,
               values.size(), symbols_.size());
  return evaluate_node(static_cast<std::uint32_t>(nodes_.size() - 1), values);
}

std::int64_t Expression::evaluate(const Lookup& lookup) const {
  const Expression rest = substitute(lookup);
  if (!rest.symbols_.empty())
    throw Error("expression \"{}\": {} is not known", text_, rest.symbols_[0]);
  return rest.evaluate(std::span<const std::int64_t>());
}

std::uint32_t Expression::rebuild(const Expression& from, std::uint32_t index,
                                  const Lookup& lookup) {
  const Node& node = from.nodes_[index];
  const auto add = [&](Node built) {
    nodes_.push_back(built);
    return static_cast<std::uint32_t>(nodes_.size() - 1);
  };
  const auto known = [&](std::uint32_t built) -> std::optional<std::int64_t> {
    if (nodes_[built].kind != Kind::constant) return std::nullopt;
    return nodes_[built].value;
  };
  switch (node.kind) {
    case Kind::constant:
      return add(node);
    case Kind::symbol: {
      const std::string& name = from.symbols_[static_cast<std::size_t>(node.value)];
      if (const auto value = lookup(name)) return add({Kind::constant, *value});
      auto it = std::find(symbols_.begin(), symbols_.end(), name);
      if (it == symbols_.end()) it = symbols_.insert(symbols_.end(), name);
      return add({Kind::symbol, it - symbols_.begin()});
    }
    case Kind::select: {
      const std::uint32_t condition = rebuild(from, node.a, lookup);
      if (const auto value = known(condition))
        return rebuild(from, *value != 0 ? node.b : node.c, lookup);
      const std::uint32_t then = rebuild(from, node.b, lookup);
      const std::uint32_t otherwise = rebuild(from, node.c, lookup);
      return add({Kind::select, 0, condition, then, otherwise});
    }
    case Kind::logical_and:
    case Kind::logical_or: {
      const bool is_or = node.kind == Kind::logical_or;
      const std::uint32_t a = rebuild(from, node.a, lookup);
      const auto a_known = known(a);
      if (a_known && (*a_known != 0) == is_or) return add({Kind::constant, is_or ? 1 : 0});
      const std::uint32_t b = rebuild(from, node.b, lookup);
      if (a_known && known(b)) return add({Kind::constant, *known(b) != 0 ? 1 : 0});
      return add({node.kind, 0, a, b, 0});
    }
    default:
      break;
  }
  const bool is_unary =
      node.kind == Kind::negate || node.kind == Kind::logical_not || node.kind == Kind::next_pow2;
  const std::uint32_t a = rebuild(from, node.a, lookup);
  const std::uint32_t b = is_unary ? a : rebuild(from, node.b, lookup);
  // What cannot be folded stays: the branch that holds it may never be taken.
  if (known(a) && known(b))
    if (const auto value = apply(node.kind, *known(a), *known(b)))
      return add({Kind::constant, *value});
  return add({node.kind, 0, a, b, 0});
}

Expression Expression::substitute(const Lookup& lookup) const {
  Expression result;
  result.text_ = text_;
  result.nodes_.clear();
  result.rebuild(*this, static_cast<std::uint32_t>(nodes_.size() - 1), lookup);
  return result;
}

std::optional<std::int64_t> Expression::constant_value() const {
  if (nodes_.back().kind != Kind::constant) return std::nullopt;
  return nodes_.back().value;
}

std::optional<Expression::Affine> Expression::affine(std::span<const Affine> symbols) const {
  return affine_node(static_cast<std::uint32_t>(nodes_.size() - 1), symbols);
}

std::optional<Expression::Affine> Expression::affine_node(std::uint32_t index,
                                                          std::span<const Affine> symbols) const {
  const Node& node = nodes_[index];
  if (node.kind == Kind::constant) return Affine{0, node.value};
  if (node.kind == Kind::symbol) return symbols[static_cast<std::size_t>(node.value)];
  const auto both = [&](Kind kind, const Affine& a, const Affine& b) -> std::optional<Affine> {
    const auto factor = apply(kind, a.factor, b.factor);
    const auto offset = apply(kind, a.offset, b.offset);
    if (!factor || !offset) return std::nullopt;
    return Affine{*factor, *offset};
  };
  if (node.kind != Kind::negate && node.kind != Kind::add && node.kind != Kind::subtract &&
      node.kind != Kind::multiply && node.kind != Kind::floor_divide)
    return std::nullopt;
  const auto a = affine_node(node.a, symbols);
  if (!a) return std::nullopt;
  if (node.kind == Kind::negate) return both(Kind::subtract, {0, 0}, *a);
  const auto b = affine_node(node.b, symbols);
  if (!b) return std::nullopt;
  switch (node.kind) {
    case Kind::multiply:
      if (a->factor != 0 && b->factor != 0) return std::nullopt;
      return a->factor == 0 ? both(node.kind, *b, {a->offset, a->offset})
                            : both(node.kind, *a, {b->offset, b->offset});
    case Kind::floor_divide:
      if (b->factor != 0 || b->offset < 1 || a->factor % b->offset != 0) return std::nullopt;
      return both(node.kind, *a, {b->offset, b->offset});
    default:
      return both(node.kind, *a, *b);
  }
}

}  // namespace nereid::kernel
