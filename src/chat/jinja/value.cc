#include "chat/jinja/value.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace nereid::chat::jinja {

namespace {

// Others are a key as the one object that they are.
bool has_items_as_key(const List& list) {
  return list.kind == ListKind::kTuple || list.kind == ListKind::kRange;
}

// What tells keys apart: equal keys have equal texts (1, 1.0 and True are one key).
void append_key(std::string& out, const Value& key) {
  if (const Text* text = key.as_text()) {
    out += 's';
    out += std::to_string(text->size());
    out += ':';
    out += text->view();
  } else if (const auto number = key.as_int()) {
    out += 'i' + std::to_string(*number);
  } else if (const double* real = key.as_float()) {
    if (std::floor(*real) == *real && std::abs(*real) < 9e18)
      out += 'i' + std::to_string(static_cast<std::int64_t>(*real));
    else
      out += 'f' + std::to_string(std::bit_cast<std::uint64_t>(*real));
  } else if (key.is_none()) {
    out += 'n';
  } else if (key.is_undefined()) {
    out += 'u';
  } else if (const List* list = key.as_list(); list != nullptr && has_items_as_key(*list)) {
    out += list->kind == ListKind::kRange ? 'r' : '(';
    for (const Value& item : list->items) append_key(out, item);
    out += ')';
  } else {
    const void* is = list != nullptr ? static_cast<const void*>(list) : key.as_object();
    out += 'o' + std::to_string(reinterpret_cast<std::uintptr_t>(is));
  }
}

bool less_lists(const List& a, const List& b, Budget& budget) {
  for (std::size_t i = 0; i < a.items.size() && i < b.items.size(); ++i)
    if (!equal(a.items[i], b.items[i], budget)) return less(a.items[i], b.items[i], budget);
  return a.items.size() < b.items.size();
}

// Keys and items are sets to Python; values are not.
bool is_set(const Value& value) {
  const List* list = value.as_list(ListKind::kView);
  return list != nullptr && list->part != DictPart::kValues;
}

bool is_subset(const List& a, const List& b, Budget& budget) {
  return std::all_of(a.items.begin(), a.items.end(), [&](const Value& item) {
    return std::any_of(b.items.begin(), b.items.end(),
                       [&](const Value& other) { return equal(item, other, budget); });
  });
}

bool equal_dicts(const Dict& a, const Dict& b, Budget& budget) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (other == nullptr || !equal(value, *other, budget)) return false;
  }
  return true;
}

// An integer and a float, exactly: a double does not hold every 64-bit integer.
int compare_numbers(const Value& a, const Value& b) {
  const auto x = a.as_int();
  const auto y = b.as_int();
  if (x && y) return *x < *y ? -1 : *x > *y ? 1 : 0;
  const auto p = static_cast<long double>(x ? static_cast<long double>(*x) : *a.as_number());
  const auto q = static_cast<long double>(y ? static_cast<long double>(*y) : *b.as_number());
  if (std::isnan(p) || std::isnan(q)) return 2;
  return p < q ? -1 : p > q ? 1 : 0;
}

}  // namespace

Value Value::undefined(std::string name) {
  Value value;
  std::get<Undefined>(value.data_).name = std::make_shared<const std::string>(std::move(name));
  return value;
}

Value Value::list(std::vector<Value> items, ListKind kind) {
  auto list = std::make_shared<List>();
  list->kind = kind;
  list->items = std::move(items);
  return Value(std::shared_ptr<const List>(std::move(list)));
}

Value Value::range(std::vector<Value> items, const RangeBounds& bounds) {
  auto list = std::make_shared<List>();
  list->kind = ListKind::kRange;
  list->items = std::move(items);
  list->bounds = bounds;
  return Value(std::shared_ptr<const List>(std::move(list)));
}

Value Value::view(std::vector<Value> items, DictPart part) {
  auto list = std::make_shared<List>();
  list->kind = ListKind::kView;
  list->items = std::move(items);
  list->part = part;
  return Value(std::shared_ptr<const List>(std::move(list)));
}

std::optional<std::int64_t> Value::as_int() const {
  if (const auto* i = std::get_if<std::int64_t>(&data_)) return *i;
  if (const bool* b = as_bool()) return *b ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::as_number() const {
  if (const double* d = as_float()) return *d;
  if (const auto i = as_int()) return static_cast<double>(*i);
  return std::nullopt;
}

const Text* Value::as_text() const {
  const auto* p = std::get_if<std::shared_ptr<const Text>>(&data_);
  return p == nullptr ? nullptr : p->get();
}

const List* Value::as_list() const {
  const auto* p = std::get_if<std::shared_ptr<const List>>(&data_);
  return p == nullptr ? nullptr : p->get();
}

const List* Value::as_list(ListKind kind) const {
  const List* list = as_list();
  return list != nullptr && list->kind == kind ? list : nullptr;
}

const Dict* Value::as_dict() const {
  const auto* p = std::get_if<std::shared_ptr<const Dict>>(&data_);
  return p == nullptr ? nullptr : p->get();
}

std::shared_ptr<Object> Value::object() const {
  const auto* p = std::get_if<std::shared_ptr<Object>>(&data_);
  return p == nullptr ? nullptr : *p;
}

Object* Value::as_object() const {
  const auto* p = std::get_if<std::shared_ptr<Object>>(&data_);
  return p == nullptr ? nullptr : p->get();
}

const std::string& Value::undefined_name() const {
  static const std::string unnamed = "a value";
  const auto* undefined = std::get_if<Undefined>(&data_);
  return undefined != nullptr && undefined->name ? *undefined->name : unnamed;
}

bool Value::is_true() const {
  if (is_undefined() || is_none()) return false;
  if (const auto i = as_int()) return *i != 0;
  if (const double* d = as_float()) return *d != 0;
  if (const Text* text = as_text()) return !text->empty();
  if (const List* items = as_list())
    return items->kind == ListKind::kGenerator || !items->items.empty();
  if (const Dict* dict = as_dict()) return dict->size() > 0;
  return true;
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "undefined";
  if (is_none()) return "None";
  if (as_bool() != nullptr) return "bool";
  if (is_int()) return "int";
  if (as_float() != nullptr) return "float";
  if (as_text() != nullptr) return "str";
  if (as_dict() != nullptr) return "dict";
  if (const List* items = as_list()) {
    switch (items->kind) {
      case ListKind::kList:
        return "list";
      case ListKind::kTuple:
        return "tuple";
      case ListKind::kRange:
        return "range";
      case ListKind::kView:
        return "dict view";
      case ListKind::kGenerator:
        return "generator";
    }
  }
  return as_object()->type_name();
}

bool Value::is_same(const Value& other) const {
  if (data_.index() != other.data_.index()) return false;
  if (const Text* text = as_text()) return text == other.as_text();
  if (const List* items = as_list()) return items == other.as_list();
  if (const Dict* dict = as_dict()) return dict == other.as_dict();
  if (const Object* mine = as_object()) return mine == other.as_object();
  if (const auto i = as_int()) return i == other.as_int();
  if (as_float() != nullptr) return *as_float() == *other.as_float();
  return true;
}

void Dict::set(Value key, Value value) {
  std::string name;
  append_key(name, key);
  const auto [found, is_new] = index_.emplace(std::move(name), entries_.size());
  if (is_new)
    entries_.emplace_back(std::move(key), std::move(value));
  else
    entries_[found->second].second = std::move(value);
}

const Value* Dict::find(const Value& key) const {
  std::string name;
  append_key(name, key);
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find(std::string_view key) const {
  std::string name = 's' + std::to_string(key.size()) + ':';
  name += key;
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

Value Object::call(Runtime&, CallArgs&) { throw Error("'{}' is not callable", type_name()); }

void throw_undefined(const Value& value) { throw Error("{} is undefined", value.undefined_name()); }

void throw_type(std::string_view what, const Value& value) {
  if (value.is_undefined()) throw_undefined(value);
  throw Error("{} does not go with a value of type '{}'", what, value.type_name());
}

void require_hashable(const Value& key) {
  const List* list = key.as_list();
  if (key.as_dict() != nullptr ||
      (list != nullptr && (list->kind == ListKind::kList || is_set(key))))
    throw Error("a value of type '{}' is no key", key.type_name());
  if (list != nullptr && list->kind == ListKind::kTuple)
    for (const Value& item : list->items) require_hashable(item);
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.spend();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.as_text() != nullptr && b.as_text() != nullptr)
    return a.as_text()->view() == b.as_text()->view();
  if (const List* x = a.as_list()) {
    const List* y = b.as_list();
    if (x == y) return true;
    if (y == nullptr || x->kind != y->kind || x->items.size() != y->items.size()) return false;
    if (is_set(a) && is_set(b)) return is_subset(*x, *y, budget);
    if (x->kind == ListKind::kGenerator || x->kind == ListKind::kView) return false;
    for (std::size_t i = 0; i < x->items.size(); ++i)
      if (!equal(x->items[i], y->items[i], budget)) return false;
    return true;
  }
  if (const Dict* x = a.as_dict())
    return b.as_dict() != nullptr && equal_dicts(*x, *b.as_dict(), budget);
  return a.is_same(b);
}

bool less(const Value& a, const Value& b, Budget& budget) {
  budget.spend();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == -1;
  if (a.as_text() != nullptr && b.as_text() != nullptr)
    return a.as_text()->view() < b.as_text()->view();  // UTF-8 sorts as its code points
  const List* x = a.as_list();
  const List* y = b.as_list();
  if (x != nullptr && y != nullptr && x->kind == y->kind &&
      (x->kind == ListKind::kList || x->kind == ListKind::kTuple))
    return less_lists(*x, *y, budget);
  if (is_set(a) && is_set(b)) return x->items.size() < y->items.size() && is_subset(*x, *y, budget);
  if (a.is_undefined()) throw_undefined(a);
  if (b.is_undefined()) throw_undefined(b);
  throw Error("values of type '{}' and '{}' have no order", a.type_name(), b.type_name());
}

}  // namespace nereid::chat::jinja
