// Goal: sets of characters in Oniguruma's dialect, which PCRE2 writes otherwise or not at all:
// nested classes and intersections in [...], properties by their long names, [:posix:] classes.
// Non-goal: the rest of the dialect (regex_syntax.cc); blocks (\p{In_...}) and ages.
// Rejected: tables of characters; every set becomes classes and properties that PCRE2 has.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace nereid::tokenizer {

// What is read, and what an Error calls it.
struct RegexSource {
  std::string_view pattern;
  std::string where;

  std::string_view from(std::size_t at) const { return pattern.substr(at); }
  [[noreturn]] void unsupported(std::string_view what) const;
};

// Where a set stands at `at` ([...], \p{...}, \w and the like), passes over it and returns what
// matches one of its characters in PCRE2.
std::optional<std::string> read_set(const RegexSource& source, std::size_t& at);

// The escape of one character (\n, \x41, \u0041), which stands at `at`, as PCRE2 writes it.
std::string read_escaped_character(const RegexSource& source, std::size_t& at);

}  // namespace nereid::tokenizer
