// Goal: a part of a text, in bytes.
#pragma once

#include <cstddef>

namespace nereid::tokenizer {

struct TextRange {
  std::size_t begin;
  std::size_t end;
  friend bool operator==(const TextRange&, const TextRange&) = default;
};

}  // namespace nereid::tokenizer
