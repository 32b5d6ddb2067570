#include "chat/jinja/inspect.h"

#include <functional>
#include <set>

namespace nereid::chat::jinja {

namespace {

using Visit = std::function<void(const Expr&)>;
using VisitStatement = std::function<void(const Statement&)>;

void each_expr(const Expr& expr, const Visit& visit) {
  visit(expr);
  for (const auto& child : expr.children)
    if (child) each_expr(*child, visit);
  for (const auto& [name, child] : expr.named) each_expr(*child, visit);
}

void each_statement(const Block& block, const VisitStatement& visit) {
  for (const Statement& statement : block) {
    visit(statement);
    each_statement(statement.body, visit);
    each_statement(statement.otherwise, visit);
  }
}

bool reads_key(const Expr& expr, std::string_view key) {
  if (expr.kind == ExprKind::kAttribute) return expr.name == key;
  if (expr.kind != ExprKind::kItem) return false;
  const Text* name = expr.children[1]->value.as_text();
  return expr.children[1]->kind == ExprKind::kConst && name != nullptr && name->view() == key;
}

// Through filters: `message.content | list` is still the content.
const Expr& without_filters(const Expr& expr) {
  const Expr* at = &expr;
  while (at->kind == ExprKind::kFilter && at->children[0]) at = at->children[0].get();
  return *at;
}

}  // namespace

bool uses_name(const Block& block, std::string_view name) {
  bool is_used = false;
  const Visit visit = [&](const Expr& expr) {
    is_used |= expr.kind == ExprKind::kName && expr.name == name;
  };
  each_statement(block, [&](const Statement& statement) {
    if (statement.expr) each_expr(*statement.expr, visit);
    if (statement.test) each_expr(*statement.test, visit);
    for (const Parameter& parameter : statement.parameters)
      if (parameter.fallback) each_expr(*parameter.fallback, visit);
  });
  return is_used;
}

bool loops_over(const Block& block, std::string_view key) {
  std::set<std::string, std::less<>> names{std::string(key)};
  const auto is_key = [&](const Expr& expr) {
    return reads_key(expr, key) || (expr.kind == ExprKind::kName && names.contains(expr.name));
  };
  each_statement(block, [&](const Statement& statement) {
    if (statement.kind == StatementKind::kSet && statement.target.attribute.empty() &&
        !statement.target.is_tuple && is_key(without_filters(*statement.expr)))
      names.insert(statement.target.name);
  });
  bool loops = false;
  each_statement(block, [&](const Statement& statement) {
    loops |= statement.kind == StatementKind::kFor && is_key(without_filters(*statement.expr));
  });
  return loops;
}

}  // namespace nereid::chat::jinja
