// Goal: a regular expression in the common part of ECMA-262, PCRE and Python as an automaton over
// characters: | * + ? {n,m} (...) [...] . \d \w \s, escapes, ^ and $ as the text's ends.
// Non-goal: what no automaton does (back references), look-around, \b, \p{...}, flags: an Error
// names it.
// Rejected: tokenizer/regex.h, which hands a pattern to PCRE2: that searches a whole text and keeps
// its automaton to itself, and here a text is matched byte by byte with many continuations.
#pragma once

#include <string>
#include <string_view>

#include "grammar/automaton.h"
#include "grammar/limits.h"

namespace nereid::grammar {

enum class RegexUse { full_match, search };  // search: the pattern matches anywhere in the text

// `where` is what an Error calls the pattern. Texts that match have label 1.
Automaton parse_regex(std::string_view pattern, RegexUse use, const Limits& limits,
                      const std::string& where);

}  // namespace nereid::grammar
