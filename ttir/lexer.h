// Goal: MLIR text as tokens, one at a time, with the line of each.
// Non-goal: meaning; numbers and strings are handed on as they are written.
// Rejected: a token list made up front: shapes (`0x4xf32`) are lexed differently inside `tensor<`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nereid::ttir {

enum class TokenKind : std::uint8_t {
  end,
  word,         // tt.load, x, f32
  value,        // %12, text without the %
  symbol,       // @name, text without the @
  label,        // ^bb0
  hash,         // #loc1, #1, text without the #
  bang,         // !tt.ptr, text without the !
  integer,      // 12, 0xFF
  floating,     // 1.5e+00
  string,       // text between the quotes, escapes as written
  punctuation,  // one character, or ->
};

struct Token {
  TokenKind kind = TokenKind::end;
  std::string_view text;
  std::size_t begin = 0;  // offset in the text
  std::size_t end = 0;
  int line = 1;
};

class Lexer {
 public:
  Lexer(std::string_view text, std::string where);

  Token next();
  // Reads `4x16x` at `token`, which the caller has already taken, and goes on behind it.
  std::vector<std::int64_t> shape_from(const Token& token);

  std::string_view text() const { return text_; }
  const std::string& where() const { return where_; }

 private:
  void skip_space();
  Token make(TokenKind kind, std::size_t begin, std::size_t text_begin);
  Token number();
  Token string();
  char peek(std::size_t ahead = 0) const;

  std::string_view text_;
  std::string where_;
  std::size_t position_ = 0;
  int line_ = 1;
};

// <cctype> depends on the locale and is undefined for negative chars.
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The bytes that a string token stands for.
std::string unescape(std::string_view text);

}  // namespace nereid::ttir
