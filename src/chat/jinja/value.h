// Goal: the values of a template, with Python's meaning: what is true, equal, less, a key.
// Non-goal: changing one. Templates run in an immutable sandbox, so lists and dicts are shared and
// constant; only namespaces change. Integers over 64 bits.
// Rejected: nlohmann's json as the value, because it has no undefined, tuple, macro or origin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "chat/jinja/budget.h"
#include "chat/jinja/text.h"

namespace nereid::chat::jinja {

class Value;
class Dict;
struct Object;

// What looks like a list: `kind` says how it prints and what may be done with it.
enum class ListKind : std::uint8_t { kList, kTuple, kRange, kView, kGenerator };
// What a range was made of: how it prints, and what a slice of it is made of.
struct RangeBounds {
  std::int64_t start;
  std::int64_t stop;
  std::int64_t step;
};
enum class DictPart : std::uint8_t { kKeys, kValues, kItems };

struct List {
  ListKind kind = ListKind::kList;
  std::vector<Value> items;
  RangeBounds bounds{};           // of a range
  DictPart part{};                // of a view
  mutable bool is_spent = false;  // of a generator, which can be read once
};

// A name that nothing has: prints as "", is false, and fails when something is asked of it.
struct Undefined {
  std::shared_ptr<const std::string> name;
};

class Value {
 public:
  Value() = default;  // undefined
  static Value undefined(std::string name);
  static Value none() { return Value(std::monostate{}); }
  explicit Value(bool b) : data_(b) {}
  explicit Value(std::int64_t i) : data_(i) {}
  explicit Value(double d) : data_(d) {}
  explicit Value(Text text) : data_(std::make_shared<const Text>(std::move(text))) {}
  explicit Value(std::string text) : Value(Text(std::move(text))) {}
  explicit Value(std::shared_ptr<const List> list) : data_(std::move(list)) {}
  explicit Value(std::shared_ptr<const Dict> dict) : data_(std::move(dict)) {}
  explicit Value(std::shared_ptr<Object> object) : data_(std::move(object)) {}
  static Value list(std::vector<Value> items, ListKind kind = ListKind::kList);
  static Value range(std::vector<Value> items, const RangeBounds& bounds);
  static Value view(std::vector<Value> items, DictPart part);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<std::monostate>(data_); }
  const bool* as_bool() const { return std::get_if<bool>(&data_); }
  const double* as_float() const { return std::get_if<double>(&data_); }
  std::optional<std::int64_t> as_int() const;  // of bools, too: they are Python's 0 and 1
  std::optional<double> as_number() const;
  bool is_int() const { return std::holds_alternative<std::int64_t>(data_); }
  bool is_number() const { return as_bool() != nullptr || is_int() || as_float() != nullptr; }
  const Text* as_text() const;
  const List* as_list() const;  // of every kind
  const List* as_list(ListKind kind) const;
  const Dict* as_dict() const;
  Object* as_object() const;
  std::shared_ptr<Object> object() const;
  const std::string& undefined_name() const;

  bool is_true() const;
  std::string_view type_name() const;      // Python's
  bool is_same(const Value& other) const;  // Python's `is`

 private:
  using Data = std::variant<Undefined, std::monostate, bool, std::int64_t, double,
                            std::shared_ptr<const Text>, std::shared_ptr<const List>,
                            std::shared_ptr<const Dict>, std::shared_ptr<Object>>;
  explicit Value(std::monostate none) : data_(none) {}
  Data data_;
};

// In the order of insertion.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;
  void set(Value key, Value value);  // `key` is hashable
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }

 private:
  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::size_t> index_;  // of the keys, by what tells them apart
};

struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Runtime;

// Everything else: namespaces, loops, macros, functions, methods.
struct Object {
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  virtual std::optional<Value> attribute(std::string_view) { return std::nullopt; }
  virtual bool is_callable() const { return false; }
  virtual Value call(Runtime&, CallArgs&);
};

// `what` asks something of an undefined value or one of a wrong type.
[[noreturn]] void throw_undefined(const Value& value);
[[noreturn]] void throw_type(std::string_view what, const Value& value);

void require_hashable(const Value& key);
bool equal(const Value& a, const Value& b, Budget& budget);
// Python's <; an Error where the two have no order.
bool less(const Value& a, const Value& b, Budget& budget);

}  // namespace nereid::chat::jinja
