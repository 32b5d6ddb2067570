#include "chat/jinja/operators.h"

#include <cmath>

#include "chat/jinja/format.h"
#include "chat/jinja/strings.h"

namespace nereid::chat::jinja {

namespace {

[[noreturn]] void throw_operands(std::string_view name, const Value& a, const Value& b) {
  if (a.is_undefined()) throw_undefined(a);
  if (b.is_undefined()) throw_undefined(b);
  throw Error("{} does not go with '{}' and '{}'", name, a.type_name(), b.type_name());
}

// By reference: `value` is an argument beside the call that sets it.
Value checked(bool has_overflow, const std::int64_t& value) {
  if (has_overflow) throw Error("an integer has more than 64 bits");
  return Value(value);
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value integer_power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) throw Error("0 to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  std::int64_t result = 1;
  // Other bases overflow before they loop for long.
  if (base == 0 || base == 1 || base == -1)
    return Value(exponent == 0 ? 1 : base == -1 && exponent % 2 == 0 ? std::int64_t{1} : base);
  for (; exponent > 0; --exponent)
    if (__builtin_mul_overflow(result, base, &result)) checked(true, 0);
  return Value(result);
}

Value integers(std::string_view name, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (name == "+") return checked(__builtin_add_overflow(a, b, &result), result);
  if (name == "-") return checked(__builtin_sub_overflow(a, b, &result), result);
  if (name == "*") return checked(__builtin_mul_overflow(a, b, &result), result);
  if (name == "**") return integer_power(a, b);
  if (b == 0) throw Error("division by zero");
  if (name == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) {  // the one quotient that may overflow
    if (name == "%") return Value(std::int64_t{0});
    return checked(__builtin_sub_overflow(std::int64_t{0}, a, &result), result);
  }
  const std::int64_t quotient = floor_divide(a, b);
  return Value(name == "//" ? quotient : a - quotient * b);
}

Value floats(std::string_view name, double a, double b) {
  if (name == "+") return Value(a + b);
  if (name == "-") return Value(a - b);
  if (name == "*") return Value(a * b);
  if (name == "**") {
    if ((a == 0 && b < 0) || (a < 0 && std::floor(b) != b))
      throw Error("** has no real result for {} and {}", a, b);
    const double power = std::pow(a, b);
    if (std::isinf(power) && std::isfinite(a) && std::isfinite(b)) throw Error("** overflows");
    return Value(power);
  }
  if (b == 0) throw Error("division by zero");
  if (name == "/") return Value(a / b);
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) {
    rest += b;
    quotient -= 1;
  }
  if (name == "%") return Value(rest == 0 ? std::copysign(0.0, b) : rest);
  if (quotient == 0) return Value(std::copysign(0.0, a / b));
  const double whole = std::floor(quotient);
  return Value(quotient - whole > 0.5 ? whole + 1 : whole);
}

Value repeat_list(Runtime& runtime, const Value& value, std::int64_t n) {
  const List& list = *value.as_list();
  std::vector<Value> items;
  if (n > 0 && !list.items.empty()) {
    std::uint64_t n_items = 0;
    if (__builtin_mul_overflow(static_cast<std::uint64_t>(n), list.items.size(), &n_items))
      n_items = ~std::uint64_t{0};
    runtime.budget.spend(n_items);
    for (; n > 0; --n) items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return Value::list(std::move(items), list.kind);
}

bool is_plain_list(const Value& value) {
  return value.as_list(ListKind::kList) != nullptr || value.as_list(ListKind::kTuple) != nullptr;
}

bool contains(Runtime& runtime, const Value& item, const Value& in) {
  if (in.is_undefined()) return false;
  if (const Text* text = in.as_text()) {
    if (item.as_text() == nullptr) throw_operands("in", item, in);
    runtime.budget.spend(text->size() / 64);
    return text->view().find(item.as_text()->view()) != std::string_view::npos;
  }
  if (const Dict* dict = in.as_dict()) {
    require_hashable(item);
    return dict->find(item) != nullptr;
  }
  if (in.as_list() == nullptr) throw_operands("in", item, in);
  for (const Value& other : items_of(runtime, in))
    if (item.is_same(other) || equal(item, other, runtime.budget)) return true;
  return false;
}

}  // namespace

Value binary(Runtime& runtime, std::string_view name, const Value& a, const Value& b) {
  if (a.is_undefined()) throw_undefined(a);
  if (name == "%" && a.as_text() != nullptr) return Value(format_percent(runtime, *a.as_text(), b));
  if (b.is_undefined()) throw_undefined(b);
  const auto i = a.as_int();
  const auto j = b.as_int();
  if (i && j) return integers(name, *i, *j);
  if (a.is_number() && b.is_number()) return floats(name, *a.as_number(), *b.as_number());
  if (name == "+") {
    if (a.as_text() != nullptr && b.as_text() != nullptr)
      return Value(concat(runtime.budget, *a.as_text(), *b.as_text()));
    if (is_plain_list(a) && is_plain_list(b) && a.as_list()->kind == b.as_list()->kind) {
      std::vector<Value> items = items_of(runtime, a);
      for (Value& item : items_of(runtime, b)) items.push_back(std::move(item));
      return Value::list(std::move(items), a.as_list()->kind);
    }
  }
  if (name == "*") {
    if (a.as_text() != nullptr && j) return Value(repeat(runtime.budget, *a.as_text(), *j));
    if (b.as_text() != nullptr && i) return Value(repeat(runtime.budget, *b.as_text(), *i));
    if (is_plain_list(a) && j) return repeat_list(runtime, a, *j);
    if (is_plain_list(b) && i) return repeat_list(runtime, b, *i);
  }
  throw_operands(name, a, b);
}

Value negative(const Value& value) {
  if (const auto i = value.as_int()) return integers("-", 0, *i);
  if (value.as_float() == nullptr) throw_type("-", value);
  return Value(-*value.as_float());
}

Value positive(const Value& value) {
  if (const auto i = value.as_int()) return Value(*i);
  if (value.as_float() == nullptr) throw_type("+", value);
  return value;
}

bool compare(Runtime& runtime, std::string_view name, const Value& a, const Value& b) {
  if (name == "==") return equal(a, b, runtime.budget);
  if (name == "!=") return !equal(a, b, runtime.budget);
  if (name == "in") return contains(runtime, a, b);
  if (name == "not in") return !contains(runtime, a, b);
  if (name == "<") return less(a, b, runtime.budget);
  if (name == ">") return less(b, a, runtime.budget);
  // Not the negation of < where one is not a number.
  const bool is_equal = equal(a, b, runtime.budget);
  const bool is_less = name == "<=" ? less(a, b, runtime.budget) : less(b, a, runtime.budget);
  return is_equal || is_less;
}

}  // namespace nereid::chat::jinja
