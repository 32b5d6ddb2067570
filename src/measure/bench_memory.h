// Goal: addresses for the launches of a plan that runs alone: weights and key-value caches at ever
// other places of one large pool, so that no cache holds them; the rest as the runner lays it out.
// Non-goal: meaningful numbers. Only what decides how much is computed (lengths, block tables) is
// real.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "device/device.h"
#include "graph/ir.h"
#include "graph/memory_plan.h"

namespace nereid::measure {

// The sequences of a step, all alike.
struct StepShape {
  std::int64_t n_sequences = 1;
  std::int64_t n_query = 1;    // tokens of each in this step
  std::int64_t n_context = 1;  // keys of each, those of this step among them
  std::int64_t n_tokens() const { return n_sequences * n_query; }
};

class BenchMemory {
 public:
  // `pool` outlives this and is at least twice as large as any weight or cache of the graph.
  BenchMemory(device::Device& device, const graph::Graph& graph, const graph::SymbolValues& largest,
              std::int64_t n_kv_blocks, const device::Buffer& pool);

  static std::size_t largest_weight_bytes(const graph::Graph& graph);

  const device::Buffer& arena() const { return arena_; }

  // Fills the inputs that say which keys a step reads.
  void set_step(const StepShape& step);

  // Bytes of a node's operands that lie in the pool.
  std::size_t pooled_bytes(const graph::Node& node) const;
  // Where a value lies in the copy that begins at `pool_offset`; moves that on past a pooled value.
  device::Address address(graph::ValueId id, std::size_t& pool_offset) const;

 private:
  std::size_t value_bytes(const graph::Value& value) const;
  void write(const char* input, const std::vector<std::int32_t>& values);

  device::Device& device_;
  const graph::Graph& graph_;
  graph::SymbolValues largest_;
  std::int64_t n_kv_blocks_;
  graph::MemoryPlan plan_;
  const device::Buffer& pool_;
  device::Buffer arena_;
  std::map<std::string, device::Buffer> others_;  // inputs and small states, by name
};

}  // namespace nereid::measure
