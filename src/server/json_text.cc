#include "server/json_text.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "tokenizer/utf8.h"

namespace nereid::server {

void append_json_string(std::string& out, std::string_view text) {
  std::string valid;
  if (!tokenizer::is_valid_utf8(text)) {
    valid = tokenizer::to_valid_utf8(text);
    text = valid;
  }
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", unsigned(c));
        else
          out += c;
    }
  }
  out += '"';
}

std::string json_quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

void append_logprob(std::string& out, float value) {
  if (std::isfinite(value))
    fmt::format_to(std::back_inserter(out), "{}", value);
  else
    out += "-9999.0";
}

}  // namespace nereid::server
