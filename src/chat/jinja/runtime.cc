#include "chat/jinja/runtime.h"

#include "chat/jinja/methods.h"
#include "chat/jinja/strings.h"

namespace nereid::chat::jinja {

namespace {

std::optional<Value> find_item(Runtime& runtime, const Value& object, const Value& key) {
  if (const Dict* dict = object.as_dict()) {
    if (key.as_dict() != nullptr || key.as_list(ListKind::kList) != nullptr) return std::nullopt;
    const Value* found = dict->find(key);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  const auto index = key.as_int();
  if (!index) return std::nullopt;
  if (const List* list = object.as_list()) {
    if (list->kind == ListKind::kView || list->kind == ListKind::kGenerator) return std::nullopt;
    const auto n = static_cast<std::int64_t>(list->items.size());
    const std::int64_t at = *index < 0 ? *index + n : *index;
    if (at < 0 || at >= n) return std::nullopt;
    return list->items[static_cast<std::size_t>(at)];
  }
  if (const Text* text = object.as_text()) {
    auto character = character_at(runtime.budget, *text, *index);
    if (!character) return std::nullopt;
    return Value(std::move(*character));
  }
  return std::nullopt;
}

std::optional<Value> find_attribute(const Value& object, const std::string& name) {
  if (Object* found = object.as_object()) return found->attribute(name);
  return find_method(object, name);
}

RangeBounds slice_range(const RangeBounds& range, const Slice& slice, std::size_t n_items) {
  const auto [start, stop] = bounds_of(slice, n_items);
  const auto at = [&](std::int64_t index) {
    std::int64_t value = 0;
    if (__builtin_mul_overflow(index, range.step, &value) ||
        __builtin_add_overflow(value, range.start, &value))
      throw Error("an integer has more than 64 bits");
    return value;
  };
  std::int64_t step = 0;
  if (__builtin_mul_overflow(range.step, slice.step, &step))
    throw Error("an integer has more than 64 bits");
  return {at(start), at(stop), step};
}

}  // namespace

Value get_attribute(Runtime& runtime, const Value& object, const std::string& name) {
  if (object.is_undefined()) throw_undefined(object);
  if (auto found = find_attribute(object, name)) return std::move(*found);
  if (object.as_dict() != nullptr)
    if (auto found = find_item(runtime, object, Value(name))) return std::move(*found);
  return Value::undefined(fmt::format("'{}' of a {}", name, object.type_name()));
}

Value get_item(Runtime& runtime, const Value& object, const Value& key) {
  if (object.is_undefined()) throw_undefined(object);
  if (auto found = find_item(runtime, object, key)) return std::move(*found);
  const Text* name = key.as_text();
  if (name == nullptr) return Value::undefined(fmt::format("an item of a {}", object.type_name()));
  if (auto found = find_attribute(object, std::string(name->view()))) return std::move(*found);
  return Value::undefined(
      fmt::format("'{}' of a {}", name->view().substr(0, 80), object.type_name()));
}

Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  const auto bound = [](const Value& value) -> std::optional<std::int64_t> {
    if (value.is_none()) return std::nullopt;
    const auto index = value.as_int();
    if (!index) throw_type("a slice", value);
    return index;
  };
  const Slice slice{bound(start), bound(stop), bound(step).value_or(1)};
  if (slice.step == 0) throw Error("a slice has the step 0");
  if (const Text* text = object.as_text()) return Value(slice_text(runtime.budget, *text, slice));
  const List* list = object.as_list();
  if (list == nullptr || list->kind == ListKind::kView || list->kind == ListKind::kGenerator)
    throw_type("a slice", object);
  std::vector<Value> items;
  for_each_index(slice, list->items.size(), [&](std::size_t at) {
    runtime.budget.spend();
    items.push_back(list->items[at]);
  });
  if (list->kind == ListKind::kRange)
    return Value::range(std::move(items), slice_range(list->bounds, slice, list->items.size()));
  return Value::list(std::move(items), list->kind);
}

Value call(Runtime& runtime, const Value& callee, CallArgs& args) {
  if (callee.is_undefined()) throw_undefined(callee);
  const std::shared_ptr<Object> object = callee.object();
  if (!object || !object->is_callable())
    throw Error("a value of type '{}' is not callable", callee.type_name());
  return object->call(runtime, args);
}

std::vector<Value> items_of(Runtime& runtime, const Value& value) {
  if (value.is_undefined()) return {};
  if (const List* list = value.as_list()) {
    runtime.budget.spend(list->items.size());
    if (list->kind != ListKind::kGenerator) return list->items;
    if (std::exchange(list->is_spent, true)) return {};
    return list->items;
  }
  std::vector<Value> items;
  if (const Dict* dict = value.as_dict()) {
    runtime.budget.spend(dict->size());
    for (const auto& [key, item] : dict->entries()) items.push_back(key);
    return items;
  }
  if (const Text* text = value.as_text()) {
    runtime.budget.spend(text->size());
    for (std::size_t at = 0; at < text->size();) {
      const std::size_t end = at + tokenizer::utf8_at(text->view(), at).size_bytes;
      items.emplace_back(text->part(at, end));
      at = end;
    }
    return items;
  }
  throw Error("a value of type '{}' is not iterable", value.type_name());
}

std::int64_t length_of(const Value& value) {
  if (value.is_undefined()) return 0;
  if (const Text* text = value.as_text()) return n_characters(text->view());
  if (const Dict* dict = value.as_dict()) return static_cast<std::int64_t>(dict->size());
  const List* list = value.as_list();
  if (list == nullptr || list->kind == ListKind::kGenerator)
    throw Error("a value of type '{}' has no length", value.type_name());
  return static_cast<std::int64_t>(list->items.size());
}

}  // namespace nereid::chat::jinja
