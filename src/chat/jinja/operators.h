// Goal: the operators of expressions, with Python's results and its errors.
#pragma once

#include <string_view>

#include "chat/jinja/runtime.h"

namespace nereid::chat::jinja {

Value binary(Runtime& runtime, std::string_view name, const Value& a, const Value& b);
Value negative(const Value& value);
Value positive(const Value& value);
// ==, !=, <, <=, >, >=, in, not in
bool compare(Runtime& runtime, std::string_view name, const Value& a, const Value& b);

}  // namespace nereid::chat::jinja
