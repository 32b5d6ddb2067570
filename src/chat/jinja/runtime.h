// Goal: what one rendering has besides its variables: the budget, the time, and what must be taken
// apart at its end.
#pragma once

#include <ctime>
#include <memory>
#include <string_view>
#include <vector>

#include "chat/jinja/budget.h"
#include "chat/jinja/value.h"

namespace nereid::chat::jinja {

// The one kind of value that changes. It may come to hold itself: Runtime empties it at the end.
struct Namespace final : Object {
  std::string_view type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(std::string_view name) override {
    const Value* found = fields.find(name);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  Dict fields;
};

class Runtime {
 public:
  Runtime(const Limits& limits, std::time_t time) : budget(limits), now(time) {}
  ~Runtime() {
    for (const auto& made : namespaces_) made->fields = Dict();
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  std::shared_ptr<Namespace> make_namespace() {
    return namespaces_.emplace_back(std::make_shared<Namespace>());
  }

  Budget budget;
  const std::time_t now;
  int depth = 0;  // of nested expressions and statements being run
  int calls = 0;  // of macros

 private:
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

// x.name and x[key]: an undefined value where there is none, an Error of an undefined x.
Value get_attribute(Runtime& runtime, const Value& object, const std::string& name);
Value get_item(Runtime& runtime, const Value& object, const Value& key);
// x[start:stop:step], each of which may be none.
Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step);

Value call(Runtime& runtime, const Value& callee, CallArgs& args);

// What a for loop goes over: the keys of a dict, the characters of a string; nothing for undefined.
std::vector<Value> items_of(Runtime& runtime, const Value& value);
// len(value)
std::int64_t length_of(const Value& value);

}  // namespace nereid::chat::jinja
