// Goal: the tokens of a template one after another, and errors that say at which line.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "chat/jinja/lexer.h"

namespace nereid::chat::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  int line() const { return current().line; }

  bool at(TokenKind kind) const { return current().kind == kind; }
  bool at_operator(std::string_view text) const {
    return at(TokenKind::kOperator) && current().text == text;
  }
  bool at_name(std::string_view text) const {
    return at(TokenKind::kName) && current().text == text;
  }

  Token next() {
    Token token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool skip_operator(std::string_view text) {
    if (!at_operator(text)) return false;
    next();
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!at_name(text)) return false;
    next();
    return true;
  }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fail(text);
  }
  Token expect(TokenKind kind, std::string_view what) {
    if (!at(kind)) fail(what);
    return next();
  }
  [[noreturn]] void fail(std::string_view expected) const {
    throw Error("line {}: expected {}, got {}", line(), expected, describe());
  }

 private:
  std::string describe() const {
    switch (current().kind) {
      case TokenKind::kData:
        return "text";
      case TokenKind::kBlockBegin:
        return "{%";
      case TokenKind::kBlockEnd:
        return "%}";
      case TokenKind::kVariableBegin:
        return "{{";
      case TokenKind::kVariableEnd:
        return "}}";
      case TokenKind::kString:
        return "a string";
      case TokenKind::kEnd:
        return "the end of the template";
      default:
        return "'" + current().text.substr(0, 40) + "'";
    }
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
};

}  // namespace nereid::chat::jinja
