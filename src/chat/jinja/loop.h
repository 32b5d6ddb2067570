// Goal: the `loop` of a for loop: what comes next, and what templates ask about it.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "chat/jinja/runtime.h"

namespace nereid::chat::jinja {

// The items that pass the loop's test, which is asked as late as possible: the body may change what
// it depends on.
class Loop final : public Object, public std::enable_shared_from_this<Loop> {
 public:
  using Passes = std::function<bool(const Value&)>;
  Loop(std::vector<Value> items, Passes passes)
      : items_(std::move(items)), passes_(std::move(passes)) {}

  // To the next item; false at the end.
  bool advance();
  const Value& current() const { return *current_; }

  std::string_view type_name() const override { return "LoopContext"; }
  std::optional<Value> attribute(std::string_view name) override;

  Value cycle(const CallArgs& args) const;
  Value changed(Runtime& runtime, const CallArgs& args);
  // The loop is over: what it refers to may go.
  void finish() { passes_ = nullptr; }

 private:
  bool fetch();  // one more into ready_
  const Value* peek();
  std::int64_t length();

  std::vector<Value> items_;
  Passes passes_;
  std::size_t at_ = 0;
  std::deque<Value> ready_;
  std::optional<Value> previous_;
  std::optional<Value> current_;
  std::optional<Value> watched_;  // what changed() was last told
  std::int64_t index0_ = -1;
};

}  // namespace nereid::chat::jinja
