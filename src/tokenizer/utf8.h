// Goal: UTF-8 that may be broken or cut anywhere becomes valid UTF-8, whole characters at a time.
// Non-goal: other encodings; properties of characters (unicode.h).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nereid::tokenizer {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Char {
  char32_t code;
  std::size_t size_bytes;
};

// The character that starts at `at` of a valid text.
Utf8Char utf8_at(std::string_view valid, std::size_t at);
void append_utf8(std::string& out, char32_t code);

bool is_valid_utf8(std::string_view bytes);

// Each maximal invalid part becomes one U+FFFD, as Python's errors="replace" and the Unicode
// standard do.
std::string to_valid_utf8(std::string_view bytes);

// The same for bytes that arrive in parts: the beginning of a character waits for the rest of it.
class Utf8Assembler {
 public:
  void push(std::string_view bytes, std::string& out);
  void finish(std::string& out);

 private:
  std::string held_;  // a proper prefix of one character: at most 3 bytes
};

}  // namespace nereid::tokenizer
