#include "chat/jinja/evaluator.h"

#include "chat/jinja/filters.h"
#include "chat/jinja/globals.h"
#include "chat/jinja/loop.h"
#include "chat/jinja/operators.h"
#include "chat/jinja/print.h"
#include "chat/jinja/tests.h"

namespace nereid::chat::jinja {

namespace {

// A macro's body nests a few levels for each that the template writes.
constexpr int kLevelsPerDepth = 8;

struct Macro final : Object {
  Macro(Evaluator& by, const Statement& defined, Scope& sees)
      : evaluator(by), statement(defined), scope(sees) {}
  std::string_view type_name() const override { return "Macro"; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, CallArgs& args) override {
    return evaluator.call_macro(statement, scope, args);
  }
  Evaluator& evaluator;
  const Statement& statement;
  Scope& scope;
};

}  // namespace

Text Evaluator::run(const Block& block) {
  const EnteredScope scope(scopes_, nullptr);
  Text out;
  run(block, scope.get(), out);
  return out;
}

void Evaluator::write(Text& out, const Text& part) {
  const std::size_t most = runtime_.budget.limits().text_bytes;
  if (part.size() > most - std::min(out.size(), most)) runtime_.budget.spend_text(most + 1);
  runtime_.budget.spend_text(part.size());
  out.append(part);
}

Evaluator::Flow Evaluator::run(const Block& block, Scope& scope, Text& out) {
  const Nesting nesting(runtime_.depth, kLevelsPerDepth * runtime_.budget.limits().depth, "itself");
  for (const Statement& statement : block) {
    const Flow flow = run(statement, scope, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::run(const Statement& statement, Scope& scope, Text& out) {
  runtime_.budget.spend();
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::kData:
      write(out, Text(statement.text));
      break;
    case StatementKind::kOutput:
      write(out, to_text(eval(*statement.expr, scope), runtime_.budget));
      break;
    case StatementKind::kIf:
      return run_if(statement, scope, out);
    case StatementKind::kFor:
      return run_for(statement, scope, out);
    case StatementKind::kSet:
      assign(statement.target, scope, eval(*statement.expr, scope));
      break;
    case StatementKind::kSetBlock: {
      Value made(run_apart(statement, scope));
      if (statement.expr) made = eval_filter(*statement.expr, scope, &made);
      assign(statement.target, scope, std::move(made));
      break;
    }
    case StatementKind::kFilter: {
      const Value made(run_apart(statement, scope));
      write(out, to_text(eval_filter(*statement.expr, scope, &made), runtime_.budget));
      break;
    }
    case StatementKind::kMacro:
      define_macro(statement, scope);
      break;
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
    case StatementKind::kGeneration:
      write(out, run_apart(statement, scope));
      break;
  }
  return Flow::kNext;
}

Text Evaluator::run_apart(const Statement& statement, Scope& scope) {
  const EnteredScope inner(scopes_, &scope);
  Text out;
  run(statement.body, inner.get(), out);
  return out;
}

Evaluator::Flow Evaluator::run_if(const Statement& statement, Scope& scope, Text& out) {
  const Statement* at = &statement;
  while (!eval(*at->expr, scope).is_true()) {
    // An elif is an `if` alone in the other branch.
    const bool is_elif = at->otherwise.size() == 1 && at->otherwise[0].kind == StatementKind::kIf;
    if (!is_elif) return run(at->otherwise, scope, out);
    at = &at->otherwise[0];
    runtime_.budget.spend();
  }
  return run(at->body, scope, out);
}

Evaluator::Flow Evaluator::run_for(const Statement& statement, Scope& scope, Text& out) {
  const Value over = eval(*statement.expr, scope);
  Loop::Passes passes;
  if (statement.test)
    passes = [&](const Value& item) {
      const EnteredScope inner(scopes_, &scope);
      assign(statement.target, inner.get(), item);
      return eval(*statement.test, inner.get()).is_true();
    };
  const auto loop = std::make_shared<Loop>(items_of(runtime_, over), std::move(passes));
  // Jinja's own rule: `else` runs where no item's body came to its end.
  bool is_empty = true;
  while (loop->advance()) {
    runtime_.budget.spend();
    const EnteredScope inner(scopes_, &scope);
    inner.get().set("loop", Value(std::shared_ptr<Object>(loop)));
    assign(statement.target, inner.get(), loop->current());
    const Flow flow = run(statement.body, inner.get(), out);
    is_empty &= flow != Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  loop->finish();
  if (!is_empty) return Flow::kNext;
  const EnteredScope inner(scopes_, &scope);
  return run(statement.otherwise, inner.get(), out);
}

void Evaluator::define_macro(const Statement& statement, Scope& scope) {
  Scopes::capture(scope);
  scope.set(statement.text,
            Value(std::shared_ptr<Object>(std::make_shared<Macro>(*this, statement, scope))));
}

Value Evaluator::call_macro(const Statement& statement, Scope& scope, const CallArgs& args) {
  const auto& parameters = statement.parameters;
  const Nesting nesting(runtime_.calls, runtime_.budget.limits().depth, "calls of macros");
  if (args.positional.size() > parameters.size())
    throw Error("the macro '{}' was given {} arguments; expected {} at most", statement.text,
                args.positional.size(), parameters.size());
  const EnteredScope inner(scopes_, &scope);
  std::vector<bool> is_given(parameters.size());
  for (std::size_t i = 0; i < args.positional.size(); ++i) {
    inner.get().set(parameters[i].name, args.positional[i]);
    is_given[i] = true;
  }
  for (const auto& [name, value] : args.named) {
    std::size_t i = 0;
    while (i < parameters.size() && parameters[i].name != name) ++i;
    if (i == parameters.size() || is_given[i])
      throw Error("the macro '{}' has no parameter '{}' or was given it twice", statement.text,
                  name);
    inner.get().set(name, value);
    is_given[i] = true;
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (is_given[i]) continue;
    inner.get().set(parameters[i].name,
                    parameters[i].fallback
                        ? eval(*parameters[i].fallback, inner.get())
                        : Value::undefined(fmt::format("the parameter '{}'", parameters[i].name)));
  }
  Text out;
  run(statement.body, inner.get(), out);
  return Value(std::move(out));
}

void Evaluator::assign(const Target& target, Scope& scope, Value value) {
  if (target.is_tuple) {
    std::vector<Value> items;
    if (value.is_undefined()) throw_undefined(value);
    items = items_of(runtime_, value);
    if (items.size() != target.parts.size())
      throw Error("{} values cannot be unpacked into {} names", items.size(), target.parts.size());
    for (std::size_t i = 0; i < items.size(); ++i)
      assign(target.parts[i], scope, std::move(items[i]));
  } else if (target.attribute.empty()) {
    scope.set(target.name, std::move(value));
  } else {
    const Value* found = scope.find(target.name);
    auto* space = found == nullptr ? nullptr : dynamic_cast<Namespace*>(found->as_object());
    if (space == nullptr) throw Error("'{}' is no namespace", target.name);
    space->fields.set(Value(target.attribute), std::move(value));
  }
}

Value Evaluator::eval(const Expr& expr, Scope& scope) {
  const Nesting nesting(runtime_.depth, kLevelsPerDepth * runtime_.budget.limits().depth, "itself");
  runtime_.budget.spend();
  line_ = expr.line;
  switch (expr.kind) {
    case ExprKind::kConst:
      return expr.value;
    case ExprKind::kName:
      return eval_name(expr, scope);
    case ExprKind::kTuple:
      return eval_items(expr, scope, ListKind::kTuple);
    case ExprKind::kList:
      return eval_items(expr, scope, ListKind::kList);
    case ExprKind::kDict:
      return eval_dict(expr, scope);
    case ExprKind::kAttribute:
      return get_attribute(runtime_, eval(*expr.children[0], scope), expr.name);
    case ExprKind::kItem:
    case ExprKind::kBinary:
      return eval_pair(expr, scope);
    case ExprKind::kSlice:
      return eval_slice(expr, scope);
    case ExprKind::kCall:
      return eval_call(expr, scope);
    case ExprKind::kFilter:
      return eval_filter(expr, scope, nullptr);
    case ExprKind::kTest:
      return eval_test(expr, scope);
    case ExprKind::kNegative:
      return negative(eval(*expr.children[0], scope));
    case ExprKind::kPositive:
      return positive(eval(*expr.children[0], scope));
    case ExprKind::kNot:
    case ExprKind::kAnd:
    case ExprKind::kOr:
    case ExprKind::kCondition:
      return eval_logic(expr, scope);
    case ExprKind::kConcat:
      return eval_concat(expr, scope);
    case ExprKind::kCompare:
      return eval_compare(expr, scope);
  }
  NEREID_UNREACHABLE("{}", static_cast<int>(expr.kind));
}

Value Evaluator::eval_name(const Expr& expr, const Scope& scope) const {
  if (const Value* found = scope.find(expr.name)) return *found;
  if (const Value* found = context_.find(expr.name)) return *found;
  if (auto found = find_global(expr.name)) return std::move(*found);
  return Value::undefined(fmt::format("'{}'", expr.name));
}

Value Evaluator::eval_items(const Expr& expr, Scope& scope, ListKind kind) {
  std::vector<Value> items;
  items.reserve(expr.children.size());
  for (const ExprPointer& child : expr.children) items.push_back(eval(*child, scope));
  return Value::list(std::move(items), kind);
}

Value Evaluator::eval_dict(const Expr& expr, Scope& scope) {
  auto dict = std::make_shared<Dict>();
  for (std::size_t i = 0; i + 1 < expr.children.size(); i += 2) {
    Value key = eval(*expr.children[i], scope);
    require_hashable(key);
    dict->set(std::move(key), eval(*expr.children[i + 1], scope));
  }
  return Value(std::shared_ptr<const Dict>(std::move(dict)));
}

Value Evaluator::eval_slice(const Expr& expr, Scope& scope) {
  const auto part = [&](std::size_t i) {
    return expr.children[i] ? eval(*expr.children[i], scope) : Value::none();
  };
  const Value object = part(0);
  const Value start = part(1);
  const Value stop = part(2);
  return get_slice(runtime_, object, start, stop, part(3));
}

CallArgs Evaluator::arguments(const Expr& expr, Scope& scope) {
  CallArgs args;
  for (std::size_t i = 1; i < expr.children.size(); ++i)
    args.positional.push_back(eval(*expr.children[i], scope));
  for (const auto& [name, child] : expr.named) args.named.emplace_back(name, eval(*child, scope));
  return args;
}

Value Evaluator::eval_call(const Expr& expr, Scope& scope) {
  const Value callee = eval(*expr.children[0], scope);
  CallArgs args = arguments(expr, scope);
  return call(runtime_, callee, args);
}

Value Evaluator::eval_filter(const Expr& expr, Scope& scope, const Value* block) {
  const Expr* input = expr.children[0].get();
  Value value;
  if (input == nullptr)
    value = *block;
  else if (input->kind == ExprKind::kFilter)
    value = eval_filter(*input, scope, block);
  else
    value = eval(*input, scope);
  const Filter filter = find_filter(expr.name);
  if (filter == nullptr) throw Error("the filter '{}' is not supported", expr.name);
  const CallArgs args = arguments(expr, scope);
  runtime_.budget.spend();
  return filter(runtime_, value, args);
}

Value Evaluator::eval_test(const Expr& expr, Scope& scope) {
  const Value value = eval(*expr.children[0], scope);
  const Test test = find_test(expr.name);
  if (test == nullptr) throw Error("the test '{}' is not supported", expr.name);
  return Value(test(runtime_, value, arguments(expr, scope)));
}

Value Evaluator::eval_pair(const Expr& expr, Scope& scope) {
  const Value left = eval(*expr.children[0], scope);
  const Value right = eval(*expr.children[1], scope);
  return expr.kind == ExprKind::kItem ? get_item(runtime_, left, right)
                                      : binary(runtime_, expr.name, left, right);
}

Value Evaluator::eval_logic(const Expr& expr, Scope& scope) {
  Value first = eval(*expr.children[0], scope);
  const bool is_true = first.is_true();
  switch (expr.kind) {
    case ExprKind::kNot:
      return Value(!is_true);
    case ExprKind::kAnd:
      return is_true ? eval(*expr.children[1], scope) : first;
    case ExprKind::kOr:
      return is_true ? first : eval(*expr.children[1], scope);
    default:
      break;
  }
  if (is_true) return eval(*expr.children[1], scope);
  if (expr.children[2]) return eval(*expr.children[2], scope);
  return Value::undefined("the missing else of an inline if");
}

Value Evaluator::eval_concat(const Expr& expr, Scope& scope) {
  std::vector<Value> values;
  for (const ExprPointer& child : expr.children) values.push_back(eval(*child, scope));
  Text out;
  for (const Value& value : values) write(out, to_text(value, runtime_.budget));
  return Value(std::move(out));
}

Value Evaluator::eval_compare(const Expr& expr, Scope& scope) {
  Value left = eval(*expr.children[0], scope);
  for (std::size_t i = 0; i < expr.names.size(); ++i) {
    Value right = eval(*expr.children[i + 1], scope);
    if (!compare(runtime_, expr.names[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

}  // namespace nereid::chat::jinja
