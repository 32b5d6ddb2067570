// Goal: sets of characters as sorted ranges.
#pragma once

#include <initializer_list>
#include <vector>

#include "grammar/automaton.h"

namespace nereid::grammar {

class CharacterSet {
 public:
  struct Range {
    char32_t first;
    char32_t last;
  };

  CharacterSet() = default;
  CharacterSet(std::initializer_list<Range> ranges);

  void add(char32_t first, char32_t last);
  void add(const CharacterSet& other);
  CharacterSet others() const;
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;  // sorted, apart from one another
};

// What \d, \w, \s and . stand for in ECMA-262, which JSON Schema names as its dialect.
const CharacterSet& digits();
const CharacterSet& word_characters();
const CharacterSet& white_space();
const CharacterSet& all_but_line_ends();

}  // namespace nereid::grammar
