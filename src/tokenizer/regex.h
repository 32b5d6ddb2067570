// Goal: the regular expressions of tokenizer.json, which are Oniguruma's (Ruby's dialect), run by
// PCRE2 with JIT.
// Non-goal: every feature of Oniguruma; what cannot be translated is an Error that names the
// pattern.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace nereid::tokenizer {

// Oniguruma's syntax as PCRE2's (regex_syntax.cc).
std::string pcre2_syntax(std::string_view oniguruma, const std::string& where);

class Regex {
 public:
  Regex(std::string_view pattern, const std::string& where);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  struct Match {
    std::size_t begin;
    std::size_t end;
  };

  // The matches in `text` (valid UTF-8, which must stay), from left to right, none overlapping.
  class Matches {
   public:
    Matches(const Regex& regex, std::string_view text);
    ~Matches();
    Matches(const Matches&) = delete;
    Matches& operator=(const Matches&) = delete;

    std::optional<Match> next();

   private:
    std::optional<Match> search(std::size_t from);

    struct State;
    std::unique_ptr<State> state_;
    const Regex& regex_;
    std::string_view text_;
    std::size_t from_ = 0;
    std::optional<std::size_t> last_end_;
  };

 private:
  struct Code;
  std::unique_ptr<Code> code_;
  std::string pattern_;
  std::string where_;
};

}  // namespace nereid::tokenizer
