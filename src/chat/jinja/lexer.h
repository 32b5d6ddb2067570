// Goal: a template's source as tokens, white space already as trim_blocks, lstrip_blocks and the
// signs in {%- ... +%} leave it.
// Non-goal: other delimiters, line statements, {% raw %}.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "chat/jinja/budget.h"

namespace nereid::chat::jinja {

enum class TokenKind : std::uint8_t {
  kData,           // text between the tags
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kName,
  kString,   // its value, escapes resolved
  kInteger,  // as written
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;
  int line;
};

// Ends with a kEnd. An Error names the line.
std::vector<Token> read_tokens(std::string_view source, const Limits& limits);

// Python's str.isspace, which str.strip and the lexer's \s mean.
bool is_python_space(char32_t code);

}  // namespace nereid::chat::jinja
