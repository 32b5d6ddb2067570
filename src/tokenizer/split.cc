#include "tokenizer/split.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace nereid::tokenizer {

SplitBehavior split_behavior(const std::string& name, const std::string& where) {
  struct Row {
    std::string_view name;
    SplitBehavior behavior;
  };
  constexpr std::array kRows = {
      Row{"Removed", SplitBehavior::kRemoved},
      Row{"Isolated", SplitBehavior::kIsolated},
      Row{"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      Row{"MergedWithNext", SplitBehavior::kMergedWithNext},
      Row{"Contiguous", SplitBehavior::kContiguous},
  };
  for (const Row& row : kRows)
    if (row.name == name) return row.behavior;
  throw Error(
      "{}: unknown behavior \"{}\"; expected Removed, Isolated, MergedWithPrevious, "
      "MergedWithNext or Contiguous",
      where, name);
}

void apply_behavior(std::vector<Span>& spans, SplitBehavior behavior) {
  if (behavior == SplitBehavior::kIsolated) return;
  if (behavior == SplitBehavior::kRemoved) {
    std::erase_if(spans, [](const Span& span) { return span.is_match; });
    return;
  }
  // A delimiter joins its neighbour unless that neighbour is one too (or, contiguous: like joins
  // like).
  const bool backwards = behavior == SplitBehavior::kMergedWithNext;
  if (backwards) std::reverse(spans.begin(), spans.end());
  std::size_t n_kept = 0;
  bool previous_match = false;
  for (const Span span : spans) {
    const bool joins = behavior == SplitBehavior::kContiguous ? span.is_match == previous_match
                                                              : span.is_match && !previous_match;
    previous_match = span.is_match;
    if (joins && n_kept > 0) {
      Span& last = spans[n_kept - 1];
      (backwards ? last.begin : last.end) = backwards ? span.begin : span.end;
    } else {
      spans[n_kept++] = span;
    }
  }
  spans.resize(n_kept);
  if (backwards) std::reverse(spans.begin(), spans.end());
}

}  // namespace nereid::tokenizer
