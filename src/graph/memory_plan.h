// Goal: where each intermediate of a graph lies in one arena, reusing the bytes of values no longer
// needed.
// Non-goal: weights, states and inputs (they live longer than a step), and fragmentation to the
// last byte.
// Rejected: an allocator in the step: a step allocates nothing.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "graph/ir.h"

namespace nereid::graph {

// A step's sizes, indexed by Symbol; [Symbol::one] is 1.
using SymbolValues = std::array<std::int64_t, kNSymbols>;

std::int64_t dim_value(const Dim& dim, const SymbolValues& symbols);
std::size_t value_bytes(const Value& value, const SymbolValues& symbols);

struct MemoryPlan {
  static constexpr std::size_t kNotInArena = static_cast<std::size_t>(-1);
  std::vector<std::size_t>
      offsets;  // by ValueId; kNotInArena for weights, states, inputs and what aliases them
  std::size_t arena_bytes = 0;     // peak
  std::size_t unshared_bytes = 0;  // what it would be without reuse: for `inspect plan`
};

// The value whose bytes `id` uses: itself, or through views and in-place outputs another.
ValueId storage_of(const Graph& graph, ValueId id);

// Elements from a row of `id` to the next: more than its columns where it is a slice of another's.
std::int64_t row_elements(const Graph& graph, ValueId id);

// `largest`: the largest sizes a step of this plan may have.
MemoryPlan plan_memory(const Graph& graph, const SymbolValues& largest);

}  // namespace nereid::graph
