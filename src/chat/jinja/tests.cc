#include "chat/jinja/tests.h"

#include <array>
#include <cmath>

#include "chat/jinja/arguments.h"
#include "chat/jinja/filters.h"
#include "chat/jinja/methods.h"
#include "chat/jinja/operators.h"
#include "chat/jinja/print.h"

namespace nereid::chat::jinja {

namespace {

// A test of the value alone.
template <bool (*kTest)(const Value&)>
bool plain(Runtime&, const Value& value, const CallArgs& args) {
  const Arguments none(args, "the test", {});
  return kTest(value);
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_boolean(const Value& value) { return value.as_bool() != nullptr; }
bool is_true(const Value& value) { return value.as_bool() != nullptr && *value.as_bool(); }
bool is_false(const Value& value) { return value.as_bool() != nullptr && !*value.as_bool(); }
bool is_integer(const Value& value) { return value.is_int(); }
bool is_float(const Value& value) { return value.as_float() != nullptr; }
bool is_number(const Value& value) { return value.is_number(); }
bool is_string(const Value& value) { return value.as_text() != nullptr; }
bool is_mapping(const Value& value) { return value.as_dict() != nullptr; }
bool is_iterable(const Value& value) {
  return value.is_undefined() || value.as_text() != nullptr || value.as_dict() != nullptr ||
         value.as_list() != nullptr;
}
bool is_sequence(const Value& value) {
  const List* list = value.as_list();
  return list == nullptr ? is_iterable(value)
                         : list->kind != ListKind::kView && list->kind != ListKind::kGenerator;
}
bool is_callable(const Value& value) {
  // Jinja's undefined has __call__, though calling it is an error.
  return value.is_undefined() || (value.as_object() != nullptr && value.as_object()->is_callable());
}

template <std::int64_t kRest>
bool has_parity(const Value& value) {
  if (const double* d = value.as_float()) return std::abs(std::fmod(*d, 2.0)) == kRest;
  const auto number = value.as_int();
  if (!number) throw_type("even or odd", value);
  return std::abs(*number % 2) == kRest;
}

bool is_divisible(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, "divisibleby", {"num"}, 1);
  return equal(binary(runtime, "%", value, args[0]), Value(std::int64_t{0}), runtime.budget);
}

template <const std::string_view& kOperator>
bool compares(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments args(call, kOperator, {"other"}, 1);
  return compare(runtime, kOperator, value, args[0]);
}

constexpr std::string_view kEqual = "==";
constexpr std::string_view kNotEqual = "!=";
constexpr std::string_view kLess = "<";
constexpr std::string_view kAtMost = "<=";
constexpr std::string_view kGreater = ">";
constexpr std::string_view kAtLeast = ">=";
constexpr std::string_view kIn = "in";

bool is_same_as(Runtime&, const Value& value, const CallArgs& call) {
  const Arguments args(call, "sameas", {"other"}, 1);
  return value.is_same(args[0]);
}

template <const auto& kMethod>
bool has_case_of(Runtime& runtime, const Value& value, const CallArgs& call) {
  const Arguments none(call, "the test", {});
  const Value text(to_text(value, runtime.budget));
  CallArgs no_args;
  return nereid::chat::jinja::call(runtime, *find_method(text, std::string(kMethod)), no_args)
      .is_true();
}
constexpr std::string_view kIsLower = "islower";
constexpr std::string_view kIsUpper = "isupper";

bool names_filter(Runtime&, const Value& value, const CallArgs& call) {
  const Arguments none(call, "filter", {});
  return value.as_text() != nullptr && find_filter(value.as_text()->view()) != nullptr;
}
bool names_test(Runtime&, const Value& value, const CallArgs& call) {
  const Arguments none(call, "test", {});
  return value.as_text() != nullptr && find_test(value.as_text()->view()) != nullptr;
}

struct TestRow {
  std::string_view name;
  Test test;
};

constexpr std::array kTests = {
    TestRow{"!=", compares<kNotEqual>},
    TestRow{"<", compares<kLess>},
    TestRow{"<=", compares<kAtMost>},
    TestRow{"==", compares<kEqual>},
    TestRow{">", compares<kGreater>},
    TestRow{">=", compares<kAtLeast>},
    TestRow{"boolean", plain<is_boolean>},
    TestRow{"callable", plain<is_callable>},
    TestRow{"defined", plain<is_defined>},
    TestRow{"divisibleby", is_divisible},
    TestRow{"eq", compares<kEqual>},
    TestRow{"equalto", compares<kEqual>},
    TestRow{"even", plain<has_parity<0>>},
    TestRow{"false", plain<is_false>},
    TestRow{"filter", names_filter},
    TestRow{"float", plain<is_float>},
    TestRow{"ge", compares<kAtLeast>},
    TestRow{"greaterthan", compares<kGreater>},
    TestRow{"gt", compares<kGreater>},
    TestRow{"in", compares<kIn>},
    TestRow{"integer", plain<is_integer>},
    TestRow{"iterable", plain<is_iterable>},
    TestRow{"le", compares<kAtMost>},
    TestRow{"lessthan", compares<kLess>},
    TestRow{"lower", has_case_of<kIsLower>},
    TestRow{"lt", compares<kLess>},
    TestRow{"mapping", plain<is_mapping>},
    TestRow{"ne", compares<kNotEqual>},
    TestRow{"none", plain<is_none>},
    TestRow{"number", plain<is_number>},
    TestRow{"odd", plain<has_parity<1>>},
    TestRow{"sameas", is_same_as},
    TestRow{"sequence", plain<is_sequence>},
    TestRow{"string", plain<is_string>},
    TestRow{"test", names_test},
    TestRow{"true", plain<is_true>},
    TestRow{"undefined", plain<is_undefined>},
    TestRow{"upper", has_case_of<kIsUpper>},
};

}  // namespace

Test find_test(std::string_view name) {
  for (const TestRow& row : kTests)
    if (row.name == name) return row.test;
  return nullptr;
}

}  // namespace nereid::chat::jinja
