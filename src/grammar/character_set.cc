#include "grammar/character_set.h"

#include <algorithm>

namespace nereid::grammar {

CharacterSet::CharacterSet(std::initializer_list<Range> ranges) {
  for (const Range& range : ranges) add(range.first, range.last);
}

void CharacterSet::add(char32_t first, char32_t last) {
  // The ranges from `from` to `to` touch the new one.
  const auto from =
      std::lower_bound(ranges_.begin(), ranges_.end(), first,
                       [](const Range& range, char32_t c) { return range.last + 1 < c; });
  auto to = from;
  for (; to != ranges_.end() && to->first <= last + 1; ++to) {
    first = std::min(first, to->first);
    last = std::max(last, to->last);
  }
  ranges_.insert(ranges_.erase(from, to), {first, last});
}

void CharacterSet::add(const CharacterSet& other) {
  for (const Range& range : other.ranges_) add(range.first, range.last);
}

CharacterSet CharacterSet::others() const {
  CharacterSet out;
  char32_t from = 0;
  for (const Range& range : ranges_) {
    if (range.first > from) out.add(from, range.first - 1);
    from = range.last + 1;
  }
  if (from <= kLastCharacter) out.add(from, kLastCharacter);
  return out;
}

const CharacterSet& digits() {
  static const CharacterSet set = {{U'0', U'9'}};
  return set;
}

const CharacterSet& word_characters() {
  static const CharacterSet set = {{U'0', U'9'}, {U'A', U'Z'}, {U'_', U'_'}, {U'a', U'z'}};
  return set;
}

const CharacterSet& white_space() {
  static const CharacterSet set = {
      {0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
      {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
  return set;
}

const CharacterSet& all_but_line_ends() {
  static const CharacterSet set =
      CharacterSet({{U'\n', U'\n'}, {U'\r', U'\r'}, {0x2028, 0x2029}}).others();
  return set;
}

}  // namespace nereid::grammar
