// tt.call: what Triton leaves where a function returns early. Its body is read again at each call,
// with the caller's values for its arguments: nothing behind the parser knows of functions.
#include <algorithm>

#include "parser.h"

namespace nereid::ttir {

namespace {

// A function that calls another twice, which calls another twice, and so on.
constexpr std::size_t kMaxCalls = 1000;
constexpr std::size_t kMaxCalled_bytes = std::size_t{16} << 20;

}  // namespace

// At tt.func: whether a private one comes.
bool Parser::at_private_function() const {
  if (!at_word("tt.func")) return false;
  Lexer ahead = lexer_;
  const Token next = ahead.next();
  return next.kind == TokenKind::word && next.text == "private";
}

// It is read where it is called.
bool Parser::skip_private_function() {
  if (!at_private_function()) return false;
  op_name_ = "tt.func";
  advance();
  advance();
  take(TokenKind::symbol, "a function name (@name)");
  skip_balanced("(", ")");
  if (accept("->")) {
    if (at("("))
      skip_balanced("(", ")");
    else
      skip_element();
  }
  if (accept_word("attributes")) skip_balanced("{", "}");
  skip_balanced("{", "}");
  skip_location();
  return true;
}

void Parser::find_functions() {
  const Place here{lexer_, token_};
  lexer_ = Lexer(lexer_.text(), lexer_.where());
  for (advance(); token_.kind != TokenKind::end; advance()) {
    if (!at_private_function()) continue;
    advance();
    advance();
    std::string name = unescape(take(TokenKind::symbol, "a function name (@name)"));
    if (!functions_.emplace(name, Place{lexer_, token_}).second)
      fail("tt.func: a second function @{}", name);
  }
  lexer_ = here.lexer;
  token_ = here.token;
}

// @name(%a, %b) {attributes} : (T, U) -> V
void Parser::call(Op& op) {
  const std::string name = unescape(take(TokenKind::symbol, "a function name (@name)"));
  std::vector<Value*> values;
  expect("(");
  if (!accept(")")) {
    do values.push_back(use());
    while (accept(","));
    expect(")");
  }
  tail(op);
  expect(":");
  const Types types = types_in_parentheses();
  expect("->");
  const Types results = result_types();
  bool fits = types.size() == values.size();
  for (std::size_t i = 0; fits && i < types.size(); ++i) fits = values[i]->type == types[i];
  if (!fits) fail_at(op.line, fmt::format("tt.call: values for @{} are not of its types", name));
  op.attrs.clear();  // they are about the function, which is gone
  op.regions.push_back(std::make_unique<Region>());
  op.regions.back()->block = inlined(op.line, name, values, results);
  op.regions.back()->block->parent = &op;
  for (const Type& type : results) add_result(op, type);
}

std::unique_ptr<Block> Parser::inlined(int line, const std::string& name,
                                       const std::vector<Value*>& values, const Types& results) {
  if (std::find(calling_.begin(), calling_.end(), name) != calling_.end())
    fail_at(line,
            fmt::format("tt.call: @{} calls itself: recursion is not supported; write it as a loop",
                        name));
  if (++n_calls_ > kMaxCalls) fail_at(line, fmt::format("tt.call: more than {} calls", kMaxCalls));
  if (++nesting_ > kMaxNesting) fail("regions nested deeper than {}", kMaxNesting);
  if (functions_.empty()) find_functions();
  const auto found = functions_.find(name);
  if (found == functions_.end())
    fail_at(line, fmt::format(
                      "tt.call: there is no function @{}; expected a private one beside the kernel",
                      name));

  const Place here{lexer_, token_};
  const std::string op_name = op_name_, suffix = suffix_;
  const std::size_t n_names = scope_.size();
  calling_.push_back(name);
  lexer_ = found->second.lexer;
  token_ = found->second.token;
  suffix_ = fmt::format(".{}", n_calls_);
  op_name_ = "tt.func";

  expect("(");
  std::size_t n_args = 0;
  if (!accept(")")) {
    do {
      const std::string arg = take(TokenKind::value, "a function argument") + suffix_;
      expect(":");
      const Type wanted = type();
      if (n_args == values.size() || values[n_args]->type != wanted)
        fail("tt.func: argument %{} of @{} is not what the call brings", arg, name);
      if (!names_.emplace(arg, values[n_args++]).second) fail("%{} is defined twice", arg);
      scope_.push_back(arg);
      Op attributes{};
      if (at("{")) attribute_dictionary(attributes);
      skip_location();
    } while (accept(","));
    expect(")");
  }
  Types returned;
  if (accept("->")) returned = result_types();
  if (n_args != values.size() || returned != results)
    fail("tt.func: @{} does not take or return what the call says", name);
  Op attributes{};
  if (accept_word("attributes")) attribute_dictionary(attributes);
  expect("{");
  if (token_.kind == TokenKind::label) fail("tt.func: a label before the first operation");
  std::unique_ptr<Block> body = blocks(std::make_unique<Block>());
  n_called_bytes_ += token_.begin - found->second.token.begin;
  if (n_called_bytes_ > kMaxCalled_bytes)
    fail_at(line, fmt::format("tt.call: functions called have more than {} bytes in all",
                              kMaxCalled_bytes));

  close_scope(n_names);
  calling_.pop_back();
  lexer_ = here.lexer;
  token_ = here.token;
  suffix_ = suffix;
  op_name_ = op_name;
  --nesting_;
  return body;
}

}  // namespace nereid::ttir
