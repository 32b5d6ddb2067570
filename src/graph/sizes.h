// Goal: the sizes of one step by name, and what a graph's dimensions come to with them.
// Non-goal: which sizes are planned for together (program/step_class.h).
// Rejected: an array in the order of Symbol: {1, n, n, n, 1} says nothing to its reader.
#pragma once

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

  bool operator==(const Sizes&) const = default;
};

constexpr std::int64_t dim_value(const Dim& dim, const Sizes& sizes) {
  switch (dim.symbol) {
    case Symbol::one:
      return dim.offset;
    case Symbol::n_tokens:
      return sizes.n_tokens * dim.factor + dim.offset;
    case Symbol::n_sequences:
      return sizes.n_sequences * dim.factor + dim.offset;
    case Symbol::n_decodes:
      return sizes.n_decodes * dim.factor + dim.offset;
    case Symbol::n_logits:
      return sizes.n_logits * dim.factor + dim.offset;
    case Symbol::max_query_tokens:
      return sizes.max_query_tokens * dim.factor + dim.offset;
  }
  return 0;
}

inline std::size_t value_bytes(const Value& value, const Sizes& sizes = {}) {
  std::size_t bytes = dtype_size_bytes(value.dtype);
  for (const auto& dim : value.shape) bytes *= static_cast<std::size_t>(dim_value(dim, sizes));
  return bytes;
}

}  // namespace nereid::graph
