// Goal: Python's methods of str, as rows of a table.
#pragma once

#include <span>
#include <string_view>

#include "chat/jinja/value.h"

namespace nereid::chat::jinja {

struct Method {
  std::string_view name;
  Value (*call)(Runtime& runtime, const Value& self, const CallArgs& args) = nullptr;
};

std::span<const Method> string_methods();

}  // namespace nereid::chat::jinja
