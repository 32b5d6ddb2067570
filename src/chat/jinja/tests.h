// Goal: what may follow `is`, as rows of a table.
#pragma once

#include <string_view>

#include "chat/jinja/runtime.h"

namespace nereid::chat::jinja {

using Test = bool (*)(Runtime& runtime, const Value& value, const CallArgs& args);

// Null where there is none of that name.
Test find_test(std::string_view name);

}  // namespace nereid::chat::jinja
