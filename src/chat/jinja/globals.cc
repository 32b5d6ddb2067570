#include "chat/jinja/globals.h"

#include <array>

#include "chat/jinja/arguments.h"
#include "chat/jinja/print.h"
#include "chat/jinja/template.h"

namespace nereid::chat::jinja {

namespace {

constexpr std::int64_t kMaxRange = 100'000;  // Jinja's sandbox has the same

Value range(Runtime& runtime, const CallArgs& call) {
  if (!call.named.empty() || call.positional.empty())
    throw Error("range takes one to three integers");
  const Arguments args(call, "range", {"start", "stop", "step"});
  const bool has_start = args.has(1);
  const std::int64_t start = has_start ? args.integer(0, 0) : 0;
  const std::int64_t stop = has_start ? args.integer(1, 0) : args.integer(0, 0);
  const std::int64_t step = args.integer(2, 1);
  if (step == 0) throw Error("range: the step is 0");
  // In 128 bits, in which no difference of two integers overflows.
  const __int128 span =
      step > 0 ? static_cast<__int128>(stop) - start : static_cast<__int128>(start) - stop;
  const __int128 stride = step > 0 ? static_cast<__int128>(step) : -static_cast<__int128>(step);
  const __int128 n = span > 0 ? (span + stride - 1) / stride : 0;
  if (n > kMaxRange) throw Error("range has more than {} integers", kMaxRange);
  runtime.budget.spend(static_cast<std::uint64_t>(n));
  std::vector<Value> items;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(n); ++i)
    items.emplace_back(start + i * step);
  return Value::range(std::move(items), {start, stop, step});
}

// What dict() and namespace() take: a dict or pairs, then names.
void fill(Runtime& runtime, Dict& dict, const CallArgs& call, std::string_view function) {
  if (call.positional.size() > 1) throw Error("{} takes one positional argument at most", function);
  if (!call.positional.empty()) {
    const Value& from = call.positional[0];
    if (from.as_dict() != nullptr) {
      runtime.budget.spend(from.as_dict()->size());
      for (const auto& [key, value] : from.as_dict()->entries()) dict.set(key, value);
    } else {
      for (const Value& pair : items_of(runtime, from)) {
        std::vector<Value> two = items_of(runtime, pair);
        if (two.size() != 2) throw Error("{} takes pairs", function);
        require_hashable(two[0]);
        dict.set(std::move(two[0]), std::move(two[1]));
      }
    }
  }
  for (const auto& [name, value] : call.named) dict.set(Value(name), value);
}

Value make_dict(Runtime& runtime, const CallArgs& call) {
  auto dict = std::make_shared<Dict>();
  fill(runtime, *dict, call, "dict");
  return Value(std::shared_ptr<const Dict>(std::move(dict)));
}

Value make_namespace(Runtime& runtime, const CallArgs& call) {
  auto made = runtime.make_namespace();
  fill(runtime, made->fields, call, "namespace");
  return Value(std::shared_ptr<Object>(std::move(made)));
}

Value raise_exception(Runtime& runtime, const CallArgs& call) {
  const Arguments args(call, "raise_exception", {"message"}, 1);
  const Text message = to_text(args[0], runtime.budget);
  throw Refusal("the chat template refused this: {}", message.view());
}

Value strftime_now(Runtime& runtime, const CallArgs& call) {
  const Arguments args(call, "strftime_now", {"format"}, 1);
  constexpr std::size_t kMaxBytes = 1024;
  const Text& format = args.text(0);
  if (format.empty() || format.size() > 256) throw Error("strftime_now: expected a short format");
  std::tm local{};
  localtime_r(&runtime.now, &local);
  std::array<char, kMaxBytes> out{};
  const std::size_t n =
      std::strftime(out.data(), out.size(), std::string(format.view()).c_str(), &local);
  return Value(Text(std::string(out.data(), n), format.has_input()));
}

// The items in turn, for ever. Its methods share what turns.
struct Turn {
  std::vector<Value> items;
  std::size_t at = 0;
};

struct CyclerMethod final : Object {
  CyclerMethod(std::shared_ptr<Turn> of, bool resets) : turn(std::move(of)), is_reset(resets) {}
  std::string_view type_name() const override { return "method"; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, CallArgs& call) override {
    const Arguments args(call, "the cycler's method", {});
    if (is_reset) {
      turn->at = 0;
      return Value::none();
    }
    Value item = turn->items[turn->at];
    turn->at = (turn->at + 1) % turn->items.size();
    return item;
  }
  std::shared_ptr<Turn> turn;
  bool is_reset;
};

struct Cycler final : Object {
  std::string_view type_name() const override { return "Cycler"; }
  std::optional<Value> attribute(std::string_view name) override {
    if (name == "current") return turn->items[turn->at];
    if (name != "next" && name != "reset") return std::nullopt;
    return Value(std::shared_ptr<Object>(std::make_shared<CyclerMethod>(turn, name == "reset")));
  }
  std::shared_ptr<Turn> turn = std::make_shared<Turn>();
};

// "" at the first call, then the separator.
struct Joiner final : Object {
  explicit Joiner(Value between) : separator(std::move(between)) {}
  std::string_view type_name() const override { return "Joiner"; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, CallArgs& call) override {
    const Arguments args(call, "joiner", {});
    return std::exchange(is_used, true) ? separator : Value(Text());
  }
  Value separator;
  bool is_used = false;
};

struct GlobalRow {
  std::string_view name;
  Value (*call)(Runtime& runtime, const CallArgs& args);
};

struct Function final : Object {
  explicit Function(const GlobalRow& of) : row(of) {}
  std::string_view type_name() const override { return "function"; }
  bool is_callable() const override { return true; }
  Value call(Runtime& runtime, CallArgs& args) override { return row.call(runtime, args); }
  const GlobalRow& row;
};

Value make_joiner(Runtime&, const CallArgs& call) {
  const Arguments args(call, "joiner", {"sep"});
  return Value(
      std::shared_ptr<Object>(std::make_shared<Joiner>(args.has(0) ? args[0] : Value(Text(", ")))));
}

Value make_cycler(Runtime&, const CallArgs& call) {
  if (call.positional.empty() || !call.named.empty()) throw Error("cycler takes one item or more");
  auto made = std::make_shared<Cycler>();
  made->turn->items = call.positional;
  return Value(std::shared_ptr<Object>(std::move(made)));
}

constexpr std::array kGlobals = {
    GlobalRow{"cycler", make_cycler},
    GlobalRow{"dict", make_dict},
    GlobalRow{"joiner", make_joiner},
    GlobalRow{"namespace", make_namespace},
    GlobalRow{"raise_exception", raise_exception},
    GlobalRow{"range", range},
    GlobalRow{"strftime_now", strftime_now},
};

}  // namespace

std::optional<Value> find_global(std::string_view name) {
  for (const GlobalRow& row : kGlobals)
    if (row.name == name) return Value(std::shared_ptr<Object>(std::make_shared<Function>(row)));
  return std::nullopt;
}

}  // namespace nereid::chat::jinja
