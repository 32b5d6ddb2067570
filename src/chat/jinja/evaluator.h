// Goal: a parsed template run on a context.
// Rejected: bytecode. A rendering takes microseconds beside the prompt that it makes.
#pragma once

#include <optional>
#include <string>

#include "chat/jinja/ast.h"
#include "chat/jinja/runtime.h"
#include "chat/jinja/scope.h"

namespace nereid::chat::jinja {

class Evaluator {
 public:
  // All outlive it.
  Evaluator(Runtime& runtime, const Dict& context) : runtime_(runtime), context_(context) {}

  Text run(const Block& block);
  int line() const { return line_; }  // of what runs or failed

  // Of the macro that `statement` defines in `scope`.
  Value call_macro(const Statement& statement, Scope& scope, const CallArgs& args);

 private:
  enum class Flow : std::uint8_t { kNext, kBreak, kContinue };

  Flow run(const Block& block, Scope& scope, Text& out);
  Flow run(const Statement& statement, Scope& scope, Text& out);
  Flow run_if(const Statement& statement, Scope& scope, Text& out);
  Flow run_for(const Statement& statement, Scope& scope, Text& out);
  void define_macro(const Statement& statement, Scope& scope);
  Text run_apart(const Statement& statement, Scope& scope);
  void write(Text& out, const Text& part);
  void assign(const Target& target, Scope& scope, Value value);

  Value eval(const Expr& expr, Scope& scope);
  Value eval_name(const Expr& expr, const Scope& scope) const;
  Value eval_items(const Expr& expr, Scope& scope, ListKind kind);
  Value eval_dict(const Expr& expr, Scope& scope);
  Value eval_slice(const Expr& expr, Scope& scope);
  Value eval_call(const Expr& expr, Scope& scope);
  // `block`: what a filter block made, for the first filter of the chain.
  Value eval_filter(const Expr& expr, Scope& scope, const Value* block);
  Value eval_test(const Expr& expr, Scope& scope);
  Value eval_compare(const Expr& expr, Scope& scope);
  Value eval_concat(const Expr& expr, Scope& scope);
  Value eval_logic(const Expr& expr, Scope& scope);
  Value eval_pair(const Expr& expr, Scope& scope);  // two operands, or an object and its item
  CallArgs arguments(const Expr& expr, Scope& scope);

  Runtime& runtime_;
  const Dict& context_;
  Scopes scopes_;
  int line_ = 1;
};

}  // namespace nereid::chat::jinja
