// Goal: tokens to a tree, by Jinja's grammar as far as chat templates use it.
// Non-goal: what they do not use: include, import, extends, block, call, with, do, raw, recursive
// loops, * and ** of calls. Each is an Error that names it and its line.
#pragma once

#include <string_view>

#include "chat/jinja/ast.h"
#include "chat/jinja/budget.h"

namespace nereid::chat::jinja {

Block parse_template(std::string_view source, const Limits& limits);

}  // namespace nereid::chat::jinja
