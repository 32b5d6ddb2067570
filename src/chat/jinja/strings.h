// Goal: Python's string operations, on code points, with the origin of every byte kept.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "chat/jinja/budget.h"
#include "chat/jinja/text.h"

namespace nereid::chat::jinja {

struct Slice {
  std::optional<std::int64_t> start;
  std::optional<std::int64_t> stop;
  std::int64_t step = 1;
};

struct SliceBounds {
  std::int64_t start;
  std::int64_t stop;
};

// Where a slice of something with `n` elements begins and ends in Python.
inline SliceBounds bounds_of(const Slice& slice, std::size_t n) {
  const auto size = static_cast<std::int64_t>(n);
  const bool back = slice.step < 0;
  const auto clamp = [&](std::optional<std::int64_t> bound, std::int64_t absent) {
    if (!bound) return absent;
    if (*bound < 0) return std::max<std::int64_t>(*bound + size, back ? -1 : 0);
    return std::min(*bound, back ? size - 1 : size);
  };
  return {clamp(slice.start, back ? size - 1 : 0), clamp(slice.stop, back ? -1 : size)};
}

// The indices of such a slice, in order.
template <typename Visit>
void for_each_index(const Slice& slice, std::size_t n, Visit visit) {
  auto [at, stop] = bounds_of(slice, n);
  while (slice.step < 0 ? at > stop : at < stop) {
    visit(static_cast<std::size_t>(at));
    if (__builtin_add_overflow(at, slice.step, &at)) return;
  }
}

std::int64_t n_characters(std::string_view text);
std::optional<Text> character_at(Budget& budget, const Text& text, std::int64_t index);
Text slice_text(Budget& budget, const Text& text, const Slice& slice);

enum class Ends : std::uint8_t { kBoth, kLeft, kRight };
// `characters`: those to take away; none: white space.
Text strip(const Text& text, std::optional<std::string_view> characters, Ends ends);

// `most` splits, all where negative; `from_right`: counted from the right. Without a separator at
// white space, empty parts left out.
std::vector<Text> split(Budget& budget, const Text& text, std::optional<std::string_view> separator,
                        std::int64_t most, bool from_right);
std::vector<Text> split_lines(Budget& budget, const Text& text, bool keep_ends);
Text replace(Budget& budget, const Text& text, std::string_view from, const Text& to,
             std::int64_t most);
Text repeat(Budget& budget, const Text& text, std::int64_t n);
Text join(Budget& budget, const Text& separator, const std::vector<Text>& parts);
Text concat(Budget& budget, const Text& a, const Text& b);

Text upper(const Text& text);
Text lower(const Text& text);
Text capitalize(const Text& text);
Text title(const Text& text);           // str.title(): a word is a run of letters
Text title_of_words(const Text& text);  // the filter: words begin behind spaces, dashes, brackets
Text swap_case(const Text& text);

// Padded to `width` characters with `fill`, the text at the left, in the middle or at the right.
enum class Align : std::uint8_t { kLeft, kCenter, kRight };
Text pad(Budget& budget, const Text& text, std::int64_t width, Align align, const Text& fill);

}  // namespace nereid::chat::jinja
