// Goal: the expressions of a template, with Jinja's precedences.
#pragma once

#include <string_view>
#include <vector>

#include "chat/jinja/ast.h"
#include "chat/jinja/budget.h"
#include "chat/jinja/token_stream.h"

namespace nereid::chat::jinja {

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, const Limits& limits) : tokens_(tokens), limits_(limits) {}

  ExprPointer expression(bool with_condition = true);
  // What may be a tuple without brackets; `end_name` ends it (a for loop's "recursive").
  ExprPointer tuple(bool with_condition, std::string_view end_name = {});
  // `| name(...) | ...` behind `input`, which is null at the beginning of a filter block, where the
  // first | is not written.
  ExprPointer filters(ExprPointer input, bool first_is_written);

  // In a body that may not run, a filter or test that does not exist is an error only if it does.
  int conditions = 0;
  int macros = 0;  // how many surround what is read

 private:
  ExprPointer any_of();
  ExprPointer all_of();
  ExprPointer negation();
  ExprPointer comparison();
  ExprPointer sum();
  ExprPointer concatenation();
  ExprPointer product();
  ExprPointer power();
  ExprPointer unary(bool with_filters);
  ExprPointer primary();
  ExprPointer postfix(ExprPointer node);
  ExprPointer subscript(ExprPointer node);
  ExprPointer test(ExprPointer node);
  ExprPointer filter_chain(ExprPointer node);
  ExprPointer dict();
  ExprPointer parenthesized();
  void call_arguments(Expr& call);
  ExprPointer make(ExprKind kind, std::vector<ExprPointer> children = {}) const;
  template <typename... Pointers>
  ExprPointer node(ExprKind kind, int line, Pointers... children) const;

  // One more part of a chain such as a + b + c, which is a tree as deep as it is long: running and
  // freeing one takes stack.
  void link();
  static constexpr int kMaxLinks = 4000;

  TokenStream& tokens_;
  const Limits& limits_;
  int depth_ = 0;
  int links_ = 0;
};

}  // namespace nereid::chat::jinja
