// Oniguruma's dialect and PCRE2's agree on the usual patterns except for:
//   sets of characters           regex_set.cc;
//   \b                           stands between other characters where \w means others;
//   {,n}                         PCRE2 takes it literally before 10.43;
//   {n,m}+                       possessive in PCRE2, "repeat the repetition" in Oniguruma;
//   \v, \uHHHH, (?m)            other meanings or other spelling.
#include <cctype>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/regex.h"
#include "tokenizer/regex_set.h"

namespace nereid::tokenizer {

namespace {

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : pattern_(pattern), source_{pattern, where} {}

  std::string run() {
    while (at_ < pattern_.size()) {
      switch (pattern_[at_]) {
        case '\\':
          begin_atom();
          escape();
          break;
        case '[':
          begin_atom();
          set();
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
  [[noreturn]] void unsupported(std::string_view what) const { source_.unsupported(what); }

  std::string_view rest() const { return pattern_.substr(at_); }
  void take() { out_.push_back(pattern_[at_++]); }
  void take_character() {
    do take();
    while (at_ < pattern_.size() && (pattern_[at_] & 0xC0) == 0x80);
  }
  void begin_atom() { atom_begin_ = out_.size(); }

  // True where one stands here.
  bool set() {
    const auto text = read_set(source_, at_);
    if (text) out_ += *text;
    return text.has_value();
  }

  void escape() {
    const char letter = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    if (letter == 'b' || letter == 'B') {
      std::size_t at = 0;
      const std::string word = *read_set({"\\w", source_.where}, at);
      out_ += letter == 'b' ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word)
                            : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word);
      at_ += 2;
    } else if (!set()) {
      out_ += read_escaped_character(source_, at_);
    }
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
  RegexSource source_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_begin_ = 0;
  std::vector<std::size_t> groups_;
};

}  // namespace

std::string pcre2_syntax(std::string_view oniguruma, const std::string& where) {
  return Translator(oniguruma, where).run();
}

}  // namespace nereid::tokenizer
