#include <algorithm>
#include <array>

#include "chat/jinja/arguments.h"
#include "chat/jinja/filters.h"
#include "chat/jinja/operators.h"
#include "chat/jinja/print.h"
#include "chat/jinja/strings.h"
#include "chat/jinja/tests.h"

namespace nereid::chat::jinja {

namespace {

Value generator(std::vector<Value> items) {
  return Value::list(std::move(items), ListKind::kGenerator);
}

// "a.b.0" of an item, as Jinja's attribute= reads it.
class AttributePath {
 public:
  AttributePath(Runtime& runtime, const Value& path) : runtime_(runtime) {
    if (path.is_none()) return;
    if (const auto index = path.as_int()) {
      parts_.emplace_back(*index);
      return;
    }
    if (path.as_text() == nullptr) throw_type("attribute", path);
    for (Text& part : split(runtime.budget, *path.as_text(), ".", -1, false)) {
      const std::string_view digits = part.view();
      const bool is_index = !digits.empty() && digits.size() < 10 &&
                            digits.find_first_not_of("0123456789") == std::string_view::npos;
      if (is_index)
        parts_.emplace_back(static_cast<std::int64_t>(std::stoll(std::string(digits))));
      else
        parts_.emplace_back(std::move(part));
    }
  }

  Value of(const Value& item, const Value* fallback = nullptr) const {
    Value value = item;
    for (const Value& part : parts_) {
      value = get_item(runtime_, value, part);
      if (fallback != nullptr && value.is_undefined()) value = *fallback;
    }
    return value;
  }

 private:
  Runtime& runtime_;
  std::vector<Value> parts_;
};

AttributePath path_of(Runtime& runtime, const Arguments& args, std::size_t i) {
  return {runtime, args.has(i) ? args[i] : Value::none()};
}

// What is compared where a filter orders values: a text without its case, unless asked.
Value sort_key(const Value& value, bool case_sensitive) {
  if (case_sensitive || value.as_text() == nullptr) return value;
  return Value(lower(*value.as_text()));
}

Value length(Runtime&, const Value& value, const CallArgs& call) {
  const Arguments args(call, "length", {});
  return Value(length_of(value));
}

Value first(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "first", {});
  const std::vector<Value> items = items_of(runtime, value);
  return items.empty() ? Value::undefined("the first of nothing") : items.front();
}

void require_reversible(const Value& value) {
  const List* list = value.as_list();
  if (list != nullptr && list->kind == ListKind::kGenerator)
    throw Error("a generator cannot be read backwards; expected |list before it");
}

Value last(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "last", {});
  require_reversible(value);
  const std::vector<Value> items = items_of(runtime, value);
  return items.empty() ? Value::undefined("the last of nothing") : items.back();
}

Value reverse(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "reverse", {});
  if (value.as_text() != nullptr)
    return Value(slice_text(runtime.budget, *value.as_text(), {std::nullopt, std::nullopt, -1}));
  const bool was_generator = value.as_list(ListKind::kGenerator) != nullptr;
  std::vector<Value> items = items_of(runtime, value);
  std::reverse(items.begin(), items.end());
  return was_generator ? Value::list(std::move(items)) : generator(std::move(items));
}

Value list_filter(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "list", {});
  return Value::list(items_of(runtime, value));
}

Value items_filter(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "items", {});
  std::vector<Value> pairs;
  if (value.is_undefined()) return generator({});
  if (value.as_dict() == nullptr) throw_type("items", value);
  runtime.budget.spend(2 * value.as_dict()->size());
  for (const auto& [key, item] : value.as_dict()->entries())
    pairs.push_back(Value::list({key, item}, ListKind::kTuple));
  return generator(std::move(pairs));
}

Value join_filter(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "join", {"d", "attribute"});
  const AttributePath path = path_of(runtime, args, 1);
  std::vector<Text> parts;
  for (const Value& item : items_of(runtime, value))
    parts.push_back(to_text(path.of(item), runtime.budget));
  return Value(
      join(runtime.budget, args.has(0) ? to_text(args[0], runtime.budget) : Text(), parts));
}

Value map(Runtime& runtime, const Value& value, const CallArgs& call) {
  std::vector<Value> out;
  if (!value.is_true()) return generator({});  // of none, too
  if (call.positional.empty()) {
    const Arguments args(call, "map", {"attribute", "default"}, 1);
    const AttributePath path = path_of(runtime, args, 0);
    const Value* fallback = args.has(1) ? &args[1] : nullptr;
    for (const Value& item : items_of(runtime, value)) out.push_back(path.of(item, fallback));
    return generator(std::move(out));
  }
  const Text* name = call.positional.front().as_text();
  const Filter filter = name == nullptr ? nullptr : find_filter(name->view());
  if (filter == nullptr) throw Error("map: no supported filter is named");
  CallArgs rest{{call.positional.begin() + 1, call.positional.end()}, call.named};
  for (const Value& item : items_of(runtime, value)) out.push_back(filter(runtime, item, rest));
  return generator(std::move(out));
}

// select, reject, selectattr, rejectattr: those for which the test holds, or does not.
template <bool kHolds, bool kOfAttribute>
Value choose(Runtime& runtime, const Value& value, const CallArgs& call) {
  constexpr std::size_t kTestAt = kOfAttribute ? 1 : 0;
  if (!value.is_true()) return generator({});  // of none, too
  if (call.positional.size() < kTestAt) throw Error("selectattr and rejectattr take an attribute");
  const AttributePath path(runtime, kOfAttribute ? call.positional[0] : Value::none());
  Test test = nullptr;
  CallArgs rest;
  if (call.positional.size() > kTestAt) {
    const Text* name = call.positional[kTestAt].as_text();
    test = name == nullptr ? nullptr : find_test(name->view());
    if (test == nullptr) throw Error("select and reject: no supported test is named");
    rest = {{call.positional.begin() + kTestAt + 1, call.positional.end()}, call.named};
  }
  std::vector<Value> out;
  for (const Value& item : items_of(runtime, value)) {
    const Value tested = path.of(item);
    if ((test != nullptr ? test(runtime, tested, rest) : tested.is_true()) == kHolds)
      out.push_back(item);
  }
  return generator(std::move(out));
}

struct Keyed {
  Value key;
  Value value;
};

std::vector<Value> sorted(Runtime& runtime, std::vector<Keyed> keyed, bool reverse_order) {
  // A comparison that throws leaves the vector in some order: it is dropped then.
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse_order ? less(b.key, a.key, runtime.budget) : less(a.key, b.key, runtime.budget);
  });
  std::vector<Value> out;
  for (Keyed& row : keyed) out.push_back(std::move(row.value));
  return out;
}

Value sort(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "sort", {"reverse", "case_sensitive", "attribute"});
  std::vector<AttributePath> paths;
  if (args.is_set(2) && args[2].as_text() != nullptr)
    for (Text& part : split(runtime.budget, args.text(2), ",", -1, false))
      paths.emplace_back(runtime, Value(std::move(part)));
  else
    paths.push_back(path_of(runtime, args, 2));
  std::vector<Keyed> keyed;
  for (const Value& item : items_of(runtime, value)) {
    std::vector<Value> keys;
    for (const AttributePath& path : paths)
      keys.push_back(sort_key(path.of(item), args.boolean(1, false)));
    keyed.push_back({Value::list(std::move(keys)), item});
  }
  return Value::list(sorted(runtime, std::move(keyed), args.boolean(0, false)));
}

Value sort_dict(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "dictsort", {"case_sensitive", "by", "reverse"});
  const std::string_view by = args.has(1) ? args.text(1).view() : "key";
  if (by != "key" && by != "value") throw Error("dictsort: by is 'key' or 'value'");
  if (value.as_dict() == nullptr) throw_type("dictsort", value);
  runtime.budget.spend(2 * value.as_dict()->size());
  std::vector<Keyed> keyed;
  for (const auto& [key, item] : value.as_dict()->entries())
    keyed.push_back({sort_key(by == "key" ? key : item, args.boolean(0, false)),
                     Value::list({key, item}, ListKind::kTuple)});
  return Value::list(sorted(runtime, std::move(keyed), args.boolean(2, false)));
}

Value unique(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "unique", {"case_sensitive", "attribute"});
  const AttributePath path = path_of(runtime, args, 1);
  Dict seen;
  std::vector<Value> out;
  for (Value& item : items_of(runtime, value)) {
    const Value key = sort_key(path.of(item), args.boolean(0, false));
    require_hashable(key);
    if (seen.find(key) != nullptr) continue;
    seen.set(key, Value::none());
    out.push_back(std::move(item));
  }
  return generator(std::move(out));
}

template <bool kLeast>
Value extreme(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, kLeast ? "min" : "max", {"case_sensitive", "attribute"});
  const AttributePath path = path_of(runtime, args, 1);
  const std::vector<Value> all = items_of(runtime, value);
  if (all.empty()) return Value::undefined("the least or greatest of nothing");
  const Value* best = nullptr;
  Value best_key;
  for (const Value& item : all) {
    Value key = sort_key(path.of(item), args.boolean(0, false));
    const bool is_better = best == nullptr || (kLeast ? less(key, best_key, runtime.budget)
                                                      : less(best_key, key, runtime.budget));
    if (!is_better) continue;
    best = &item;
    best_key = std::move(key);
  }
  return *best;
}

Value sum(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "sum", {"attribute", "start"});
  const AttributePath path = path_of(runtime, args, 0);
  Value total = args.has(1) ? args[1] : Value(std::int64_t{0});
  if (total.as_text() != nullptr) throw_type("sum", total);
  for (const Value& item : items_of(runtime, value))
    total = binary(runtime, "+", total, path.of(item));
  return total;
}

constexpr std::array kListFilters = {
    FilterRow{"count", length},
    FilterRow{"dictsort", sort_dict},
    FilterRow{"first", first},
    FilterRow{"items", items_filter},
    FilterRow{"join", join_filter},
    FilterRow{"last", last},
    FilterRow{"length", length},
    FilterRow{"list", list_filter},
    FilterRow{"map", map},
    FilterRow{"max", extreme<false>},
    FilterRow{"min", extreme<true>},
    FilterRow{"reject", choose<false, false>},
    FilterRow{"rejectattr", choose<false, true>},
    FilterRow{"reverse", reverse},
    FilterRow{"select", choose<true, false>},
    FilterRow{"selectattr", choose<true, true>},
    FilterRow{"sort", sort},
    FilterRow{"sum", sum},
    FilterRow{"unique", unique},
};

}  // namespace

std::span<const FilterRow> list_filters() { return kListFilters; }

}  // namespace nereid::chat::jinja
