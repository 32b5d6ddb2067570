// Goal: values as Python prints them (str and repr) and as json.dumps writes them, byte for byte.
#pragma once

#include <optional>
#include <string>

#include "chat/jinja/value.h"

namespace nereid::chat::jinja {

// str(value): what {{ value }} prints.
Text to_text(const Value& value, Budget& budget);
Text to_repr(const Value& value, Budget& budget);
std::string float_repr(double value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<Text> indent;  // of one level; none: all on one line
  Text item_separator{", "};
  Text key_separator{": "};
};
Text to_json(const Value& value, const JsonStyle& style, Budget& budget);

}  // namespace nereid::chat::jinja
