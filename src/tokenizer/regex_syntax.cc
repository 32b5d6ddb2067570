// Oniguruma's dialect and PCRE2's agree on the usual patterns except for:
//   \s \w \d \b and [[:class:]]  the same names mean slightly different characters: written out as
//   properties;
//   {,n}                         PCRE2 takes it literally before 10.43;
//   {n,m}+                       possessive in PCRE2, "repeat the repetition" in Oniguruma;
//   \h, \uHHHH, (?m)         other meanings or other spelling.
// Nested classes and && inside [...] exist only in Oniguruma: an Error.
#include <array>
#include <cctype>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/regex.h"

namespace nereid::tokenizer {

namespace {

#define NEREID_WORD R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})"

struct Rewrite {
  std::string_view from;
  std::string_view to;  // the inside of a class
};
constexpr std::array kEscapes = {
    Rewrite{"s", R"(\p{White_Space})"},
    Rewrite{"w", NEREID_WORD},
    Rewrite{"d", R"(\p{Nd})"},
    Rewrite{"h", "0-9a-fA-F"},
};
constexpr std::array kNegatedEscapes = {
    Rewrite{"S", R"(\P{White_Space})"},
    Rewrite{"D", R"(\P{Nd})"},
};
constexpr std::array kPosixClasses = {
    Rewrite{"alpha", R"(\p{Alphabetic})"},
    Rewrite{"digit", R"(\p{Nd})"},
    Rewrite{"alnum", R"(\p{Alphabetic}\p{Nd})"},
    Rewrite{"space", R"(\p{White_Space})"},
    Rewrite{"upper", R"(\p{Uppercase})"},
    Rewrite{"lower", R"(\p{Lowercase})"},
    Rewrite{"word", NEREID_WORD},
    Rewrite{"xdigit", "0-9a-fA-F"},
    Rewrite{"punct", R"(\p{P}$+<=>^`|~)"},
    Rewrite{"cntrl", R"(\p{Cc})"},
};

template <typename Table>
std::optional<std::string_view> rewrite(const Table& table, std::string_view from) {
  for (const auto& row : table)
    if (row.from == from) return row.to;
  return std::nullopt;
}

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      switch (pattern_[at_]) {
        case '\\':
          begin_atom();
          escape();
          break;
        case '[':
          begin_atom();
          character_class();
          break;
        case '(':
          open_group();
          break;
        case ')':
          close_group();
          break;
        case '{':
          interval();
          break;
        case '*':
        case '+':
        case '?':
          take();
          break;
        default:
          begin_atom();
          take_character();
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void unsupported(std::string_view what) const {
    throw Error("{}: the regular expression \"{}\" uses {}, which is not supported", where_,
                pattern_, what);
  }

  std::string_view rest() const { return pattern_.substr(at_); }
  void take() { out_.push_back(pattern_[at_++]); }
  void take_character() {
    do take();
    while (at_ < pattern_.size() && (pattern_[at_] & 0xC0) == 0x80);
  }
  void begin_atom() { atom_begin_ = out_.size(); }

  // \X outside or inside a class; true where it was rewritten as the inside of a class.
  bool escape_in_class() {
    if (at_ + 1 == pattern_.size()) unsupported("a lone backslash at its end");
    const std::string_view name = pattern_.substr(at_ + 1, 1);
    auto to = rewrite(kEscapes, name);
    if (!to) to = rewrite(kNegatedEscapes, name);
    if (to) {
      out_ += *to;
      at_ += 2;
      return true;
    }
    if (name == "u") {
      const std::string_view digits = pattern_.substr(at_ + 2, 4);
      if (digits.size() != 4) unsupported("an incomplete \\u");
      for (const char digit : digits)
        if (std::isxdigit(static_cast<unsigned char>(digit)) == 0) unsupported("an incomplete \\u");
      out_.append("\\x{").append(digits).append("}");
      at_ += 6;
      return true;
    }
    return false;
  }

  void escape() {
    const std::string_view name = pattern_.substr(at_ + 1, 1);
    if (name == "W") {
      out_ += "[^" NEREID_WORD "]";
      at_ += 2;
    } else if (name == "b" || name == "B") {
      constexpr std::string_view kWord = "[" NEREID_WORD "]";
      out_ += name == "b" ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", kWord)
                          : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", kWord);
      at_ += 2;
    } else if (name == "H") {
      out_ += "[^0-9a-fA-F]";
      at_ += 2;
    } else {
      const std::size_t begin = out_.size();
      if (escape_in_class()) {
        out_ = out_.substr(0, begin) + '[' + out_.substr(begin) + ']';
      } else {
        take();
        if (name == "p" || name == "P" || name == "x") {
          take();
          take_braces();
        } else {
          take_character();
        }
      }
    }
  }

  // {...} after \p or \x: part of the escape, not an interval.
  void take_braces() {
    if (!rest().starts_with('{')) return;
    while (at_ < pattern_.size() && pattern_[at_] != '}') take();
    if (at_ < pattern_.size()) take();
  }

  void character_class() {
    take();
    if (rest().starts_with('^')) take();
    if (rest().starts_with(']')) {  // literal when it comes first
      out_ += "\\]";
      ++at_;
    }
    while (at_ < pattern_.size() && pattern_[at_] != ']') {
      if (rest().starts_with("&&")) unsupported("&& inside [...]");
      if (rest().starts_with("[:")) {
        posix_class();
      } else if (pattern_[at_] == '[') {
        unsupported("[...] inside [...]");
      } else if (pattern_[at_] == '\\') {
        const std::string_view name = pattern_.substr(at_ + 1, 1);
        if (name == "W" || name == "H") unsupported("\\W or \\H inside [...]");
        if (!escape_in_class()) {
          take();
          take_character();
          if (name == "p" || name == "P" || name == "x") take_braces();
        }
      } else {
        take_character();
      }
    }
    if (at_ == pattern_.size()) unsupported("a [ without its ]");
    take();
  }

  void posix_class() {
    const std::size_t end = rest().find(":]");
    if (end == std::string_view::npos) unsupported("[...] inside [...]");
    const std::string_view name = rest().substr(2, end - 2);
    const auto to = rewrite(kPosixClasses, name);
    if (!to) unsupported(fmt::format("[:{}:]", name));
    out_ += *to;
    at_ += end + 2;
  }

  void open_group() {
    if (rest().starts_with("(*")) unsupported("(*");
    groups_.push_back(out_.size());
    const bool begins_branch =
        at_ == 0 || std::string_view("(|:").find(pattern_[at_ - 1]) != std::string_view::npos;
    take();
    if (!rest().starts_with('?')) return;
    take();
    // Options such as (?i:...) or (?m-i): Ruby's m lets . match a line's end, as PCRE2's s does.
    while (at_ < pattern_.size() &&
           (std::islower(static_cast<unsigned char>(pattern_[at_])) != 0 || pattern_[at_] == '-')) {
      const char option = pattern_[at_++];
      if (option != 'i' && option != 'm' && option != '-')
        unsupported(fmt::format("the option (?{})", option));
      out_.push_back(option == 'm' ? 's' : option);
    }
    if (at_ < pattern_.size() &&
        std::string_view(":)=!><#").find(pattern_[at_]) == std::string_view::npos)
      unsupported(fmt::format("a group (?{}", pattern_[at_]));
    if (rest().starts_with('#')) unsupported("a comment (?#");
    // In Ruby's dialect a(?i)b|c means a(?i:b|c).
    if (rest().starts_with(')') && !begins_branch) unsupported("an option within a branch");
    if (rest().starts_with('<')) take();  // (?<= (?<! (?<name>
    if (rest().starts_with('=') || rest().starts_with('!')) take();
  }

  void close_group() {
    if (groups_.empty()) unsupported("a ) without its (");
    atom_begin_ = groups_.back();
    groups_.pop_back();
    take();
  }

  void interval() {
    std::size_t end = at_ + 1;
    while (end < pattern_.size() &&
           (std::isdigit(static_cast<unsigned char>(pattern_[end])) != 0 || pattern_[end] == ','))
      ++end;
    const std::string_view inside = pattern_.substr(at_ + 1, end - at_ - 1);
    if (end == pattern_.size() || pattern_[end] != '}' || inside.empty() || inside == ",") {
      begin_atom();  // a literal brace
      out_ += "\\{";
      ++at_;
      return;
    }
    at_ = end + 1;
    out_ +=
        inside.starts_with(',') ? fmt::format("{{0{}}}", inside) : fmt::format("{{{}}}", inside);
    const bool exact = inside.find(',') == std::string_view::npos;
    if (rest().starts_with('+') || (exact && rest().starts_with('?'))) {
      out_ = out_.substr(0, atom_begin_) + "(?:" + out_.substr(atom_begin_) + ')';
    }
  }

  std::string_view pattern_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_begin_ = 0;
  std::vector<std::size_t> groups_;
};

#undef NEREID_WORD

}  // namespace

std::string pcre2_syntax(std::string_view oniguruma, const std::string& where) {
  return Translator(oniguruma, where).run();
}

}  // namespace nereid::tokenizer
