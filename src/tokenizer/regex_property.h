// Goal: names of sets of characters as PCRE2 writes them: \p{Letter}, \p{Script=Han}, [:alpha:].
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nereid::tokenizer {

// The characters of [body], or all others.
struct PlainSet {
  std::string body;
  bool is_negated = false;
};

// `name` is what stands in \p{...}, without a ^. None where no set has this name.
std::optional<PlainSet> property_set(std::string_view name);
// `name` is what stands in [:...:], without a ^.
std::optional<PlainSet> posix_set(std::string_view name);
// \s, \d, \w, \h by their letter; an upper-case letter is the others.
std::optional<PlainSet> escaped_set(char letter);

}  // namespace nereid::tokenizer
