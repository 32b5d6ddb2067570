// Goal: the functions that every template may call: range, dict, namespace, joiner, cycler,
// raise_exception, strftime_now.
#pragma once

#include <optional>
#include <string_view>

#include "chat/jinja/runtime.h"

namespace nereid::chat::jinja {

std::optional<Value> find_global(std::string_view name);

}  // namespace nereid::chat::jinja
