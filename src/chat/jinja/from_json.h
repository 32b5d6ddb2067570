// Goal: JSON as the values of a template: the caller's, and what |from_json reads.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "chat/jinja/value.h"

namespace nereid::chat::jinja {

// `is_input`: its strings and keys came from the caller. Keys keep their order.
Value from_json(const nlohmann::ordered_json& json, bool is_input, Budget& budget);

// The strings of a text that has a byte of the caller's are the caller's.
Value parse_json_text(const Text& text, Budget& budget);

}  // namespace nereid::chat::jinja
