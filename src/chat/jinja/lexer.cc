#include "chat/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace nereid::chat::jinja {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

// One kind of line end, and none at the end of the source.
std::string normalize_line_ends(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string source, std::vector<Token>& tokens)
      : source_(std::move(source)), tokens_(tokens) {}

  void run() {
    while (at_ < source_.size()) {
      const std::size_t tag = find_tag();
      add_data(tag);
      if (tag == std::string::npos) break;
      const char type = source_[tag + 1];
      move_to(tag + 2);
      if (peek() == '-' || peek() == '+') move_to(at_ + 1);
      if (type == '#')
        skip_comment();
      else
        read_tag(type == '%');
    }
    add(TokenKind::kEnd, "");
  }

 private:
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }
  bool starts_with(std::string_view text) const {
    return std::string_view(source_).substr(at_).starts_with(text);
  }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  void move_to(std::size_t at) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
    at_ = at;
  }

  std::size_t find_tag() const {
    for (std::size_t at = source_.find('{', at_); at != std::string::npos;
         at = source_.find('{', at + 1)) {
      const char next = at + 1 < source_.size() ? source_[at + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return at;
    }
    return std::string::npos;
  }

  // The text up to the tag at `tag`, less the white space that the tag takes.
  void add_data(std::size_t tag) {
    const bool is_last = tag == std::string::npos;
    std::string_view data = std::string_view(source_).substr(at_, is_last ? tag : tag - at_);
    if (!is_last) {
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      if (sign == '-') {
        data = without_space_at_end(data);
      } else if (sign != '+' && source_[tag + 1] != '{') {
        const std::size_t new_line = data.rfind('\n');
        const std::size_t begin = new_line == std::string_view::npos ? 0 : new_line + 1;
        // Only where the tag is the first of its line.
        if ((begin > 0 || line_starting_) && without_space_at_end(data.substr(begin)).empty())
          data = data.substr(0, begin);
      }
    }
    if (!data.empty()) add(TokenKind::kData, std::string(data));
    move_to(is_last ? source_.size() : tag);
  }

  static std::string_view without_space_at_end(std::string_view text) {
    while (!text.empty()) {
      std::size_t at = text.size() - 1;
      while (at > 0 && (text[at] & 0xC0) == 0x80) --at;
      if (!is_python_space(tokenizer::utf8_at(text, at).code)) break;
      text = text.substr(0, at);
    }
    return text;
  }

  void skip_space() {
    std::size_t at = at_;
    while (at < source_.size()) {
      const auto character = tokenizer::utf8_at(source_, at);
      if (!is_python_space(character.code)) break;
      at += character.size_bytes;
    }
    move_to(at);
  }

  // Behind "-%}" all white space goes, behind "%}" one line end; behind "}}" none.
  void end_tag(std::size_t n_bytes, char sign, bool trims) {
    move_to(at_ + n_bytes);
    line_starting_ = false;
    if (sign == '-') {
      const std::size_t before = at_;
      skip_space();
      line_starting_ = at_ > before && source_[at_ - 1] == '\n';
    } else if (sign != '+' && trims && peek() == '\n') {
      move_to(at_ + 1);
      line_starting_ = true;
    }
  }

  void skip_comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) throw Error("line {}: a comment {{# has no end #}}", line_);
    const char sign = end > at_ ? source_[end - 1] : '\0';
    move_to(end);
    end_tag(2, sign, true);
  }

  bool try_end_tag(bool is_block) {
    const std::string_view close = is_block ? "%}" : "}}";
    if (!open_.empty()) return false;
    const bool has_sign = peek() == '-' || (is_block && peek() == '+');
    if (has_sign && std::string_view(source_).substr(at_ + 1).starts_with(close)) {
      add(is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "");
      end_tag(3, peek(), is_block);
      return true;
    }
    if (!starts_with(close)) return false;
    add(is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "");
    end_tag(2, '\0', is_block);
    return true;
  }

  void read_tag(bool is_block) {
    const int begin_line = line_;
    add(is_block ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, "");
    while (true) {
      skip_space();
      if (at_ >= source_.size())
        throw Error("line {}: a tag {} has no end", begin_line, is_block ? "{%" : "{{");
      if (try_end_tag(is_block)) return;
      read_token();
    }
  }

  void read_token() {
    const char c = peek();
    if (c == '"' || c == '\'') return read_string(c);
    if (is_digit(c)) return read_number();
    if (is_name_start(c)) {
      std::size_t end = at_;
      while (end < source_.size() && is_name_part(source_[end])) ++end;
      add(TokenKind::kName, source_.substr(at_, end - at_));
      return move_to(end);
    }
    constexpr std::array<std::string_view, 7> kTwo = {"//", "**", "==", "!=", ">=", "<=", ""};
    for (const std::string_view two : kTwo) {
      if (two.empty() || !starts_with(two)) continue;
      add(TokenKind::kOperator, std::string(two));
      return move_to(at_ + 2);
    }
    if (std::string_view("+-/*%~[](){}<>=.:|,;").find(c) == std::string_view::npos)
      throw Error("line {}: unexpected character '{}'", line_, first_character());
    balance(c);
    add(TokenKind::kOperator, std::string(1, c));
    move_to(at_ + 1);
  }

  std::string first_character() const {
    return source_.substr(at_, tokenizer::utf8_at(source_, at_).size_bytes);
  }

  void balance(char c) {
    if (c == '(' || c == '[' || c == '{') open_ += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c != ')' && c != ']' && c != '}') return;
    if (open_.empty() || open_.back() != c)
      throw Error("line {}: unexpected '{}'{}", line_, c,
                  open_.empty() ? "" : fmt::format("; expected '{}'", open_.back()));
    open_.pop_back();
  }

  void read_number() {
    std::size_t end = at_;
    bool is_float = false;
    const auto digits = [&] {
      while (end < source_.size() &&
             (is_digit(source_[end]) ||
              (source_[end] == '_' && end + 1 < source_.size() && is_digit(source_[end + 1]))))
        ++end;
    };
    const char base = static_cast<char>(peek(1) | 0x20);
    if (peek() == '0' && (base == 'x' || base == 'o' || base == 'b'))
      throw Error("line {}: the number {}... is not supported; expected decimal digits", line_,
                  source_.substr(at_, 3));
    digits();
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
      is_float = true;
      ++end;
      digits();
    }
    if (end < source_.size() && (source_[end] | 0x20) == 'e') {
      const std::size_t sign =
          end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-');
      if (end + 1 + sign < source_.size() && is_digit(source_[end + 1 + sign])) {
        is_float = true;
        end += 1 + sign;
        digits();
      }
    }
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    add(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(text));
    move_to(end);
  }

  void read_string(char quote) {
    const int begin_line = line_;
    std::string value;
    std::size_t at = at_ + 1;
    while (true) {
      if (at >= source_.size()) throw Error("line {}: a string has no end", begin_line);
      const char c = source_[at++];
      if (c == quote) break;
      if (c != '\\') {
        value += c;
      } else {
        if (at >= source_.size()) throw Error("line {}: a string has no end", begin_line);
        at = append_escape(value, at);
      }
    }
    add(TokenKind::kString, std::move(value));
    move_to(at);
  }

  // `at`: behind the backslash. Python's escapes; one that it does not know stays as written.
  std::size_t append_escape(std::string& value, std::size_t at) const {
    constexpr std::string_view kNames = "abfnrtv\\'\"";
    constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    const char c = source_[at++];
    if (c == '\n') return at;
    if (const auto found = kNames.find(c); found != std::string_view::npos) {
      value += kMeanings[found];
      return at;
    }
    const auto digits = [&](std::size_t most, bool exact, int base) {
      std::size_t n = 0;
      std::uint32_t code = 0;
      for (; n < most && at + n < source_.size(); ++n) {
        const char d = source_[at + n];
        const int digit = is_digit(d)                              ? d - '0'
                          : (d | 0x20) >= 'a' && (d | 0x20) <= 'f' ? (d | 0x20) - 'a' + 10
                                                                   : 99;
        if (digit >= base) break;
        code = code * static_cast<std::uint32_t>(base) + static_cast<std::uint32_t>(digit);
      }
      if ((exact && n < most) || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        throw Error("line {}: the escape \\{}... is no character", line_, c);
      tokenizer::append_utf8(value, static_cast<char32_t>(code));
      at += n;
    };
    if (c == 'x') {
      digits(2, true, 16);
    } else if (c == 'u') {
      digits(4, true, 16);
    } else if (c == 'U') {
      digits(8, true, 16);
    } else if (c >= '0' && c <= '7') {
      --at;
      digits(3, false, 8);
    } else if (c == 'N') {
      throw Error("line {}: the escape \\N{{...}} is not supported; expected \\u", line_);
    } else {
      value += '\\';
      value += c;
    }
    return at;
  }

  std::string source_;
  std::vector<Token>& tokens_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // what is at at_ begins a line
  std::string open_;           // the brackets that close what is open, the last first to come
};

}  // namespace

bool is_python_space(char32_t code) {
  return tokenizer::is_whitespace(code) || (code >= 0x1C && code <= 0x1F);
}

std::vector<Token> read_tokens(std::string_view source, const Limits& limits) {
  if (source.size() > limits.source_bytes)
    throw Error("the chat template has {} bytes; expected {} at most", source.size(),
                limits.source_bytes);
  if (!tokenizer::is_valid_utf8(source)) throw Error("the chat template is not valid UTF-8");
  std::vector<Token> tokens;
  Lexer(normalize_line_ends(source), tokens).run();
  return tokens;
}

}  // namespace nereid::chat::jinja
