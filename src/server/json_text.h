// Goal: JSON written straight into a buffer: what is said for every token.
// Non-goal: documents; those are nlohmann's.
#pragma once

#include <string>
#include <string_view>

namespace nereid::server {

// `text` in quotes. What is no UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);

std::string json_quoted(std::string_view text);

// Shortest form that reads back as the same float; JSON has no infinity: -9999 then, as OpenAI has.
void append_logprob(std::string& out, float value);

}  // namespace nereid::server
