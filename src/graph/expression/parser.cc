// Recursive descent; each form of operators is one level. Names are checked while reading: what a
// body reads is an operand or a statement before.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "graph/expression/body.h"

namespace nereid::graph::expression {

namespace {

constexpr std::size_t kShownText = 200;
// Of the parser itself, two a call or a pair of parentheses.
constexpr int kMaxLevel = 2 * kMaxDepth + 2;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

class Parser {
 public:
  Parser(std::string_view text, const std::string& where, const std::vector<Helper>& helpers)
      : text_(text), where_(where), helpers_(helpers) {}

  Body parse() {
    if (text_.size() > kMaxBodyText)
      fail("{} characters; expected at most {}", text_.size(), kMaxBodyText);
    next();
    operands();
    while (is_statement()) statement();
    results();
    check_reads();
    return std::move(body_);
  }

 private:
  using Node = Body::Node;
  using Kind = Body::Kind;

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    fail_at(begin_, fmt::format(format, std::forward<Args>(args)...));
  }
  [[noreturn]] void fail_at(std::size_t at, const std::string& what) const {
    throw Error("{}: expression \"{}\", column {}: {}", where_, text_.substr(0, kShownText), at + 1,
                what);
  }

  // ---- tokens: a name, a number, a sign; empty at the end

  static std::size_t past_space(std::string_view text, std::size_t at) {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\n')) ++at;
    return at;
  }

  std::size_t token_length() const {
    const auto rest = text_.substr(begin_);
    std::size_t length = 1;
    if (is_name_start(rest[0])) {
      while (length < rest.size() && is_name_part(rest[length])) ++length;
    } else if (is_digit(rest[0]) || rest[0] == '.') {
      // A sign goes on only behind an exponent's e.
      while (length < rest.size() &&
             (is_name_part(rest[length]) || rest[length] == '.' ||
              ((rest[length] == '-' || rest[length] == '+') && rest[length - 1] == 'e')))
        ++length;
    } else {
      for (const auto* sign : {"->", "<=", ">=", "==", "!="})
        if (rest.starts_with(sign)) return 2;
      if (std::string_view("()<>+-*/,;=").find(rest[0]) == std::string_view::npos)
        fail("unexpected character '{}'", std::isprint(static_cast<unsigned char>(rest[0])) != 0
                                              ? std::string(1, rest[0])
                                              : fmt::format("\\x{:02x}", rest[0] & 0xff));
    }
    return length;
  }

  void next() {
    begin_ = past_space(text_, end_);
    const auto length = begin_ == text_.size() ? 0 : token_length();
    token_ = text_.substr(begin_, length);
    end_ = begin_ + length;
  }

  bool at_name() const { return !token_.empty() && is_name_start(token_[0]); }

  bool take(std::string_view token) {
    if (token_ != token) return false;
    next();
    return true;
  }

  std::string shown() const {
    return token_.empty() ? "the end" : fmt::format("\"{}\"", token_.substr(0, 20));
  }

  void expect(std::string_view token) {
    if (!take(token)) fail("expected \"{}\", got {}", token, shown());
  }

  std::string name() {
    if (!at_name()) fail("expected a name, got {}", shown());
    std::string name(token_);
    if (name == "return") fail("return is no name");
    next();
    return name;
  }

  // ---- a body

  void define(std::string name, std::size_t at, bool is_condition) {
    if (std::ranges::find(body_.names, name) != body_.names.end())
      fail_at(at, fmt::format("{} is defined twice", name));
    body_.names.push_back(std::move(name));
    is_condition_.push_back(is_condition);
    defined_at_.push_back(at);
  }

  void operands() {
    expect("(");
    do {
      const auto at = begin_;
      define(name(), at, false);
    } while (take(","));
    expect(")");
    expect("->");
    body_.n_operands = body_.names.size();
  }

  // NAME = ..., which no expression begins with.
  bool is_statement() const {
    if (!at_name()) return false;
    const auto rest = text_.substr(past_space(text_, end_));
    return rest.starts_with('=') && !rest.starts_with("==");
  }

  void statement() {
    const auto at = begin_;
    auto defined = name();
    expect("=");
    const auto value = expression();
    expect(";");
    body_.statements.push_back({static_cast<std::uint32_t>(body_.names.size()), value});
    define(std::move(defined), at, conditions_[value]);
  }

  void results() {
    if (!take("return") && !body_.statements.empty())
      fail("expected a statement or return, got {}", shown());
    if (token_.empty()) fail("expected what is returned, got the end");
    do {
      if (body_.results.size() == kMaxResults) fail("more than {} results", kMaxResults);
      body_.results.push_back(number());
    } while (take(","));
    if (!token_.empty()) fail("expected the end, got {}", shown());
  }

  void check_reads() const {
    for (std::size_t i = 0; i < body_.names.size(); ++i)
      if (std::ranges::none_of(body_.nodes, [&](const Node& node) {
            return node.kind == Kind::name && node.index == i;
          }))
        fail_at(defined_at_[i], fmt::format("{} is never read", body_.names[i]));
  }

  // ---- expressions

  std::uint32_t add(Node node, bool is_condition = false) {
    int depth = 0;
    for (const auto operand : node.operands) depth = std::max(depth, depths_[operand]);
    if (depth + 1 > kMaxDepth) fail("nested deeper than {} levels", kMaxDepth);
    depths_.push_back(depth + 1);
    conditions_.push_back(is_condition);
    body_.nodes.push_back(std::move(node));
    return static_cast<std::uint32_t>(body_.nodes.size() - 1);
  }

  // Counts the levels of the parser itself, which parentheses deepen and no node shows.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.level_ > kMaxLevel) parser_.fail("nested deeper than {} levels", kMaxDepth);
    }
    ~Level() { --parser_.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser& parser_;
  };

  std::uint32_t expression() {
    const Level level(*this);
    return infix(Form::comparison);
  }

  // A value, where a condition would not do.
  std::uint32_t number() {
    const auto at = begin_;
    const auto value = expression();
    check_number(value, at);
    return value;
  }

  void check_number(std::uint32_t value, std::size_t at) const {
    if (conditions_[value]) fail_at(at, "expected a number, got a comparison");
  }

  std::uint32_t infix(Form form) {
    const auto operand = [&] {
      return form == Form::product ? prefix() : infix(static_cast<Form>(int(form) + 1));
    };
    const auto at = begin_;
    auto left = operand();
    while (const auto* row = operator_of(token_, form)) {
      check_number(left, at);
      next();
      const auto right_at = begin_;
      const auto right = operand();
      check_number(right, right_at);
      left = add({Kind::operation, 0, static_cast<std::uint32_t>(row->op), {left, right}},
                 row->is_condition());
    }
    return left;
  }

  std::uint32_t prefix() {
    const Level level(*this);
    const auto* row = operator_of(token_, Form::prefix);
    if (row == nullptr) return atom();
    next();
    const auto at = begin_;
    const auto operand = prefix();
    check_number(operand, at);
    return add({Kind::operation, 0, static_cast<std::uint32_t>(row->op), {operand}});
  }

  static const OperatorRow* operator_of(std::string_view text, Form form) {
    for (const auto& row : operator_table())
      if (row.form == form && row.text == text) return &row;
    return nullptr;
  }

  std::uint32_t atom() {
    if (take("(")) {
      const auto inner = expression();
      expect(")");
      return inner;
    }
    if (!token_.empty() && (is_digit(token_[0]) || token_[0] == '.')) return literal();
    if (!at_name()) fail("expected a name, a number or \"(\", got {}", shown());
    const auto at = begin_;
    auto called = name();
    return token_ == "(" ? call(called, at) : read(called, at);
  }

  std::uint32_t literal() {
    double value = 0;
    const auto* end = token_.data() + token_.size();
    const auto [stop, error] = std::from_chars(token_.data(), end, value);
    if (error != std::errc{} || stop != end || !std::isfinite(static_cast<float>(value)))
      fail("expected a number that fp32 holds, got {}", shown());
    next();
    return add({Kind::number, value});
  }

  std::uint32_t read(const std::string& wanted, std::size_t at) {
    const auto it = std::ranges::find(body_.names, wanted);
    if (it == body_.names.end()) fail_unknown(wanted, at);
    const auto index = static_cast<std::size_t>(it - body_.names.begin());
    return add({Kind::name, 0, static_cast<std::uint32_t>(index)}, is_condition_[index]);
  }

  [[noreturn]] void fail_unknown(const std::string& wanted, std::size_t at) {
    while (!token_.empty()) {
      if (token_ == wanted && is_statement())
        fail_at(at, fmt::format("{} is read before it is defined", wanted));
      next();
    }
    std::string known;
    for (const auto& each : body_.names) known += (known.empty() ? "" : ", ") + each;
    fail_at(at, fmt::format("there is no {}; expected one of {}", wanted, known));
  }

  std::uint32_t call(const std::string& called, std::size_t at) {
    next();
    std::vector<std::uint32_t> given;
    std::vector<std::size_t> places;
    do {
      if (given.size() == kMaxOperands) fail("{} of more than {} operands", called, kMaxOperands);
      places.push_back(begin_);
      given.push_back(expression());
    } while (take(","));
    expect(")");
    std::string expected;  // numbers of operands
    for (const auto& row : operator_table()) {
      if (row.form < Form::call || row.text != called) continue;
      if (row.n_operands == given.size()) return operation(row, std::move(given), places);
      expected += fmt::format("{}{}", expected.empty() ? "" : " or ", row.n_operands);
    }
    for (std::size_t i = 0; i < helpers_.size(); ++i) {
      if (helpers_[i].name != called) continue;
      expected = fmt::format("{}", helpers_[i].body.n_operands);
      if (helpers_[i].body.n_operands != given.size()) break;
      for (std::size_t j = 0; j < given.size(); ++j) check_number(given[j], places[j]);
      return add({Kind::helper, 0, static_cast<std::uint32_t>(i), std::move(given)});
    }
    if (!expected.empty())
      fail_at(at, fmt::format("{}: expected {} operands, got {}", called, expected, given.size()));
    fail_at(at, fmt::format("there is no operator {}; expected one of {}", called, all_calls()));
  }

  std::uint32_t operation(const OperatorRow& row, std::vector<std::uint32_t> given,
                          const std::vector<std::size_t>& places) {
    for (std::size_t i = 0; i < given.size(); ++i)
      if (row.op != Operator::where || i > 0)
        check_number(given[i], places[i]);
      else if (!conditions_[given[i]])
        fail_at(places[i], "where: expected a comparison, got a number");
    return add({Kind::operation, 0, static_cast<std::uint32_t>(row.op), std::move(given)});
  }

  std::string all_calls() const {
    std::vector<std::string_view> names;
    for (const auto& row : operator_table())
      if (row.form >= Form::call) names.push_back(row.text);
    for (const auto& helper : helpers_) names.push_back(helper.name);
    std::ranges::sort(names);
    names.erase(std::unique(names.begin(), names.end()), names.end());
    std::string text;
    for (const auto each : names) text += fmt::format("{}{}", text.empty() ? "" : ", ", each);
    return text;
  }

  std::string_view text_;
  const std::string& where_;
  const std::vector<Helper>& helpers_;
  std::string_view token_;
  std::size_t begin_ = 0, end_ = 0;  // of the token
  int level_ = 0;
  Body body_;
  std::vector<bool> is_condition_;       // by name
  std::vector<std::size_t> defined_at_;  // by name
  std::vector<bool> conditions_;         // by node
  std::vector<int> depths_;              // by node
};

std::vector<Helper> read_helpers() {
  constexpr std::pair<std::string_view, std::string_view> kRows[] = {
#define EXPRESSION_HELPER(name, body) {#name, body},
#include "graph/expression/helpers.def"
#undef EXPRESSION_HELPER
  };
  std::vector<Helper> helpers;
  for (const auto& [name, text] : kRows) {
    const auto where = fmt::format("helper {}", name);
    helpers.push_back({name, Parser(text, where, helpers).parse()});
  }
  return helpers;
}

}  // namespace

const std::vector<Helper>& helper_table() {
  static const auto table = read_helpers();
  return table;
}

Body parse_body(std::string_view text, const std::string& where) {
  return Parser(text, where, helper_table()).parse();
}

}  // namespace nereid::graph::expression
