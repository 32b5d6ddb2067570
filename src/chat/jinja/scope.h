// Goal: the variables of a template: each block that has its own sees those of the blocks around
// it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chat/jinja/value.h"

namespace nereid::chat::jinja {

struct Scope {
  const Value* find(const std::string& name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent)
      for (const auto& [other, value] : scope->variables)
        if (other == name) return &value;
    return nullptr;
  }
  void set(const std::string& name, Value value) {
    for (auto& [other, old] : variables) {
      if (other != name) continue;
      old = std::move(value);
      return;
    }
    variables.emplace_back(name, std::move(value));
  }

  Scope* parent = nullptr;
  std::vector<std::pair<std::string, Value>> variables;
  bool is_captured = false;  // a macro sees it: it lives as long as the rendering
};

// Owns all scopes of a rendering, so that a macro kept in the scope that it sees is no cycle.
class Scopes {
 public:
  Scope& enter(Scope* parent) {
    Scope* scope = nullptr;
    if (free_.empty()) {
      scope = all_.emplace_back(std::make_unique<Scope>()).get();
    } else {
      scope = free_.back();
      free_.pop_back();
    }
    scope->parent = parent;
    return *scope;
  }
  void leave(Scope& scope) {
    if (scope.is_captured) return;
    scope.variables.clear();
    free_.push_back(&scope);
  }
  static void capture(Scope& scope) {
    for (Scope* s = &scope; s != nullptr && !s->is_captured; s = s->parent) s->is_captured = true;
  }

 private:
  std::vector<std::unique_ptr<Scope>> all_;
  std::vector<Scope*> free_;
};

class EnteredScope {
 public:
  EnteredScope(Scopes& scopes, Scope* parent) : scopes_(scopes), scope_(scopes.enter(parent)) {}
  ~EnteredScope() { scopes_.leave(scope_); }
  EnteredScope(const EnteredScope&) = delete;
  EnteredScope& operator=(const EnteredScope&) = delete;
  Scope& get() const { return scope_; }

 private:
  Scopes& scopes_;
  Scope& scope_;
};

}  // namespace nereid::chat::jinja
