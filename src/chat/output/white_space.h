// Goal: what counts as white space around the parts of an answer: JSON's four, which is what models
// write there.
// Non-goal: Unicode's.
// Rejected: std::isspace, which asks the locale.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace nereid::chat {

inline constexpr std::string_view kSpace = " \t\r\n";

inline bool is_space(char byte) { return kSpace.find(byte) != std::string_view::npos; }

inline std::size_t n_space_at_start(std::string_view text) {
  return std::min(text.find_first_not_of(kSpace), text.size());
}

inline std::string_view without_space_at_end(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kSpace) + 1);  // npos + 1 is 0
}

}  // namespace nereid::chat
