// Goal: where each intermediate of a graph, and each launch's scratch, lies in one arena, reusing
// the bytes of what is no longer needed. Non-goal: weights, states and inputs (they live longer
// than a step), and fragmentation to the last byte. Rejected: an allocator in the step: a step
// allocates nothing.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "graph/ir.h"
#include "graph/sizes.h"

namespace nereid::program {

// Bytes that are needed while one node runs, and what they are placed at.
struct Scratch {
  std::size_t node = 0;
  std::size_t bytes = 0;
  std::size_t offset = 0;
};

struct Memory {
  static constexpr std::size_t kNotInArena = static_cast<std::size_t>(-1);
  std::vector<std::size_t>
      offsets;  // by ValueId; kNotInArena for weights, states, inputs and what aliases them
  std::vector<Scratch> scratch;    // as given
  std::size_t arena_bytes = 0;     // peak
  std::size_t unshared_bytes = 0;  // what it would be without reuse
};

// The value whose bytes `id` uses: itself, or through views and in-place outputs another.
graph::ValueId storage_of(const graph::Graph& graph, graph::ValueId id);
// The same, and how many bytes from its start: a slice's are further on.
std::pair<graph::ValueId, std::size_t> storage_place(const graph::Graph& graph, graph::ValueId id);

// Elements from a row of `id` to the next: more than its columns where it is a slice of another's.
std::int64_t row_elements(const graph::Graph& graph, graph::ValueId id);

// `largest`: the largest sizes a step of this plan may have.
Memory plan_memory(const graph::Graph& graph, const graph::Sizes& largest,
                   std::vector<Scratch> scratch = {});

}  // namespace nereid::program
