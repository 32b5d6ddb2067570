// Goal: what a template does, read off its tree without running it.
#pragma once

#include <string_view>

#include "chat/jinja/ast.h"

namespace nereid::chat::jinja {

// It reads a variable of this name.
bool uses_name(const Block& block, std::string_view name);

// It has a loop over x.key, x["key"], or a variable that it set to one of these or named `key`.
bool loops_over(const Block& block, std::string_view key);

}  // namespace nereid::chat::jinja
