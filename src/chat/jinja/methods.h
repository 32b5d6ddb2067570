// Goal: the methods of strings, lists, tuples and dicts that templates may call.
// Non-goal: those that change a list or dict: the sandbox forbids them, and so each is an Error.
#pragma once

#include <optional>
#include <string>

#include "chat/jinja/value.h"

namespace nereid::chat::jinja {

// `self.name`, bound; nothing where Python has no such method.
std::optional<Value> find_method(const Value& self, const std::string& name);

}  // namespace nereid::chat::jinja
