#include "lexer.h"

#include <utility>

#include "base/error.h"
#include "forms.h"

namespace nereid::ttir {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_word(char c) { return is_letter(c) || is_digit(c) || c == '$' || c == '.'; }
bool is_suffix(char c) { return is_word(c) || c == '-'; }

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Lexer::Lexer(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

char Lexer::peek(std::size_t ahead) const {
  return position_ + ahead < text_.size() ? text_[position_ + ahead] : '\0';
}

void Lexer::skip_space() {
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (c == '\n') {
      ++line_;
      ++position_;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      ++position_;
    } else if (c == '/' && peek(1) == '/') {
      while (position_ < text_.size() && text_[position_] != '\n') ++position_;
    } else {
      return;
    }
  }
}

Token Lexer::make(TokenKind kind, std::size_t begin, std::size_t text_begin) {
  return {kind, text_.substr(text_begin, position_ - text_begin), begin, position_, line_};
}

Token Lexer::number() {
  const std::size_t begin = position_;
  if (peek() == '0' && peek(1) == 'x' && hex_digit(peek(2)) >= 0) {
    position_ += 2;
    while (hex_digit(peek()) >= 0) ++position_;
    return make(TokenKind::integer, begin, begin);
  }
  while (is_digit(peek())) ++position_;
  if (peek() != '.') return make(TokenKind::integer, begin, begin);
  ++position_;
  while (is_digit(peek())) ++position_;
  if (peek() == 'e' || peek() == 'E') {
    const std::size_t sign = peek(1) == '+' || peek(1) == '-' ? 1 : 0;
    if (is_digit(peek(1 + sign))) {
      position_ += 1 + sign;
      while (is_digit(peek())) ++position_;
    }
  }
  return make(TokenKind::floating, begin, begin);
}

Token Lexer::string() {
  const std::size_t begin = position_++;
  while (position_ < text_.size() && text_[position_] != '"' && text_[position_] != '\n') {
    position_ += text_[position_] == '\\' && peek(1) != '\n' ? 2 : 1;
  }
  if (position_ >= text_.size() || text_[position_] != '"') {
    throw Error("{}:{}: a string has no closing quote", where_, line_);
  }
  Token token = make(TokenKind::string, begin, begin + 1);
  token.end = ++position_;
  return token;
}

Token Lexer::next() {
  skip_space();
  const std::size_t begin = position_;
  if (begin >= text_.size()) return {TokenKind::end, {}, begin, begin, line_};
  const char c = text_[begin];
  if (is_digit(c)) return number();
  if (c == '"') return string();
  if (is_letter(c)) {
    while (is_word(peek())) ++position_;
    return make(TokenKind::word, begin, begin);
  }
  ++position_;
  const auto prefixed = [&](TokenKind kind) {
    if (!is_suffix(peek())) throw Error("{}:{}: expected a name after '{}'", where_, line_, c);
    while (is_suffix(peek())) ++position_;
    return make(kind, begin, begin + 1);
  };
  switch (c) {
    case '%':
      return prefixed(TokenKind::value);
    case '^':
      return prefixed(TokenKind::label);
    case '!':
      return prefixed(TokenKind::bang);
    case '#':
      return prefixed(TokenKind::hash);
    case '@': {
      if (peek() != '"') return prefixed(TokenKind::symbol);
      Token token = string();
      token.kind = TokenKind::symbol;
      return token;
    }
    case '-':
      if (peek() == '>') ++position_;
      return make(TokenKind::punctuation, begin, begin);
    case '(':
    case ')':
    case '{':
    case '}':
    case '[':
    case ']':
    case '<':
    case '>':
    case ',':
    case ':':
    case '=':
    case '*':
    case '?':
    case '+':
    case '|':
    case '/':
      return make(TokenKind::punctuation, begin, begin);
    default:
      break;
  }
  throw Error("{}:{}: unexpected character 0x{:02x}; expected Triton IR text", where_, line_,
              static_cast<unsigned char>(c));
}

std::vector<std::int64_t> Lexer::shape_from(const Token& token) {
  position_ = token.begin;
  line_ = token.line;
  std::vector<std::int64_t> shape;
  std::int64_t n_elements = 1;
  while (is_digit(peek())) {
    std::int64_t dim = 0;
    while (is_digit(peek())) {
      dim = dim * 10 + (text_[position_++] - '0');
      if (dim > kMaxElements) {
        throw Error("{}:{}: a tensor dimension over {}", where_, line_, kMaxElements);
      }
    }
    if (peek() != 'x') throw Error("{}:{}: expected 'x' after a tensor dimension", where_, line_);
    ++position_;
    if (dim == 0) throw Error("{}:{}: a tensor dimension of 0", where_, line_);
    n_elements *= dim;
    if (n_elements > kMaxElements) {
      throw Error("{}:{}: a tensor of more than {} elements", where_, line_, kMaxElements);
    }
    shape.push_back(dim);
    if (shape.size() > kMaxRank) {
      throw Error("{}:{}: a tensor of more than {} dimensions", where_, line_, kMaxRank);
    }
  }
  return shape;
}

std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
    } else if (text[i + 1] == 'n' || text[i + 1] == 't') {
      out += text[++i] == 'n' ? '\n' : '\t';
    } else if (i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
      out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      out += text[++i];
    }
  }
  return out;
}

}  // namespace nereid::ttir
