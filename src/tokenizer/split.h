// Goal: a text cut at its delimiters, and what becomes of the delimiters: the vocabulary of
// pre-tokenizers.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace nereid::tokenizer {

// Parts of a text in order, leaving nothing out; `is_match`: the part is a delimiter.
struct Span {
  std::size_t begin;
  std::size_t end;
  bool is_match;
};

// Where the delimiter goes: dropped, a piece of its own, with the piece before or after it, or
// together with the delimiters next to it.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// `name` as tokenizer.json writes it.
SplitBehavior split_behavior(const std::string& name, const std::string& where);

// Turns the spans into the pieces to keep, in place (is_match has no meaning any more).
void apply_behavior(std::vector<Span>& spans, SplitBehavior behavior);

// Cuts at every character for which `matches` holds.
template <typename Predicate>
void spans_of_characters(std::string_view text, Predicate matches, std::vector<Span>& spans);

}  // namespace nereid::tokenizer

#include "tokenizer/utf8.h"

namespace nereid::tokenizer {

template <typename Predicate>
void spans_of_characters(std::string_view text, Predicate matches, std::vector<Span>& spans) {
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char character = utf8_at(text, at);
    const std::size_t end = at + character.size_bytes;
    if (matches(character.code)) {
      if (begin < at) spans.push_back({begin, at, false});
      spans.push_back({at, end, true});
      begin = end;
    }
    at = end;
  }
  if (begin < text.size()) spans.push_back({begin, text.size(), false});
}

}  // namespace nereid::tokenizer
