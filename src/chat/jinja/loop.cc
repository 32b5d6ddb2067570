#include "chat/jinja/loop.h"

namespace nereid::chat::jinja {

namespace {

struct LoopMethod final : Object {
  LoopMethod(std::weak_ptr<Loop> of, bool is_cycle) : loop(std::move(of)), cycles(is_cycle) {}
  std::string_view type_name() const override { return "method"; }
  bool is_callable() const override { return true; }
  Value call(Runtime& runtime, CallArgs& args) override {
    const auto of = loop.lock();
    if (!of) throw Error("the loop is over");
    return cycles ? of->cycle(args) : of->changed(runtime, args);
  }
  std::weak_ptr<Loop> loop;  // a body may keep the method in a variable of the loop's own
  bool cycles;
};

}  // namespace

bool Loop::fetch() {
  while (at_ < items_.size()) {
    Value& item = items_[at_++];
    if (passes_ && !passes_(item)) continue;
    ready_.push_back(std::move(item));
    return true;
  }
  return false;
}

const Value* Loop::peek() {
  if (ready_.empty() && !fetch()) return nullptr;
  return &ready_.front();
}

bool Loop::advance() {
  if (peek() == nullptr) return false;
  previous_ = std::move(current_);
  current_ = std::move(ready_.front());
  ready_.pop_front();
  ++index0_;
  return true;
}

std::int64_t Loop::length() {
  while (fetch()) {
  }
  return index0_ + 1 + static_cast<std::int64_t>(ready_.size());
}

std::optional<Value> Loop::attribute(std::string_view name) {
  if (name == "index") return Value(index0_ + 1);
  if (name == "index0") return Value(index0_);
  if (name == "first") return Value(index0_ == 0);
  if (name == "last") return Value(peek() == nullptr);
  if (name == "length") return Value(length());
  if (name == "revindex") return Value(length() - index0_);
  if (name == "revindex0") return Value(length() - index0_ - 1);
  if (name == "depth") return Value(std::int64_t{1});
  if (name == "depth0") return Value(std::int64_t{0});
  if (name == "previtem")
    return previous_ ? *previous_ : Value::undefined("the item before the first");
  if (name == "nextitem") {
    const Value* next = peek();
    return next != nullptr ? *next : Value::undefined("the item after the last");
  }
  if (name == "cycle" || name == "changed")
    return Value(
        std::shared_ptr<Object>(std::make_shared<LoopMethod>(weak_from_this(), name == "cycle")));
  return std::nullopt;
}

Value Loop::cycle(const CallArgs& args) const {
  if (args.positional.empty() || !args.named.empty())
    throw Error("loop.cycle takes one item or more");
  return args.positional[static_cast<std::size_t>(index0_) % args.positional.size()];
}

Value Loop::changed(Runtime& runtime, const CallArgs& args) {
  if (!args.named.empty()) throw Error("loop.changed takes no names");
  Value now = Value::list(args.positional, ListKind::kTuple);
  const bool is_new = !watched_ || !equal(*watched_, now, runtime.budget);
  watched_ = std::move(now);
  return Value(is_new);
}

}  // namespace nereid::chat::jinja
