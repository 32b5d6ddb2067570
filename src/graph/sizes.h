// Goal: the sizes of one step by name, and what a graph's dimensions come to with them.
// Non-goal: which sizes are planned for together (program/step_class.h).
// Rejected: an array in the order of Symbol: {1, n, n, n, 1} says nothing to its reader.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "graph/ir.h"

namespace nereid::graph {

// A step's sequences: first n_decodes that bring one generated token each, in rows [0, n_decodes),
// then chunks of prompts.
struct Sizes {
  std::int64_t n_tokens = 1;
  std::int64_t n_sequences = 1;
  std::int64_t n_decodes = 0;         // of n_sequences
  std::int64_t n_logits = 1;          // rows that want a logit
  std::int64_t max_query_tokens = 1;  // of the prompt that brings the most; unread without prompts
  bool is_uneven = false;             // one that decodes is long for its share of a machine
  std::array<std::int64_t, kMaxOwnSizes> own = {};  // those that the graph declares

  bool operator==(const Sizes&) const = default;

  constexpr std::int64_t of(const Symbol& symbol) const {
    switch (symbol.id()) {
      case Symbol::one.id():
        return 0;
      case Symbol::n_tokens.id():
        return n_tokens;
      case Symbol::n_sequences.id():
        return n_sequences;
      case Symbol::n_decodes.id():
        return n_decodes;
      case Symbol::n_logits.id():
        return n_logits;
      case Symbol::max_query_tokens.id():
        return max_query_tokens;
      default:
        return own[symbol.id() - kNStepSymbols];
    }
  }
};

constexpr std::int64_t dim_value(const Dim& dim, const Sizes& sizes) {
  return sizes.of(dim.symbol) * dim.factor + dim.offset;
}

inline std::size_t value_bytes(const Value& value, const Sizes& sizes = {}) {
  std::size_t bytes = dtype_size_bytes(value.dtype);
  for (const auto& dim : value.shape) bytes *= static_cast<std::size_t>(dim_value(dim, sizes));
  return bytes;
}

}  // namespace nereid::graph
