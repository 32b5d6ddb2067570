#include "measure/bench_memory.h"

#include <algorithm>
#include <span>

#include "base/error.h"
#include "engine/plan_catalog.h"
#include "model/architecture.h"

namespace nereid::measure {

namespace {

namespace names = model::names;

constexpr std::size_t kAlignmentBytes = 256;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

bool is_cache(const graph::Value& value) {
  return value.kind == graph::ValueKind::state && value.name.starts_with(names::kCachePrefix);
}

bool is_pooled(const graph::Value& value) {
  return is_cache(value) ||
         (value.kind == graph::ValueKind::weight && value.name != names::kInvFreq);
}

}  // namespace

BenchMemory::BenchMemory(device::Device& device, const graph::Graph& graph,
                         const graph::SymbolValues& largest, std::int64_t n_kv_blocks,
                         const device::Buffer& pool)
    : device_(device),
      graph_(graph),
      largest_(largest),
      n_kv_blocks_(n_kv_blocks),
      plan_(graph::plan_memory(graph, largest)),
      pool_(pool) {
  for (const auto& value : graph.values) {
    if (is_pooled(value)) {
      NEREID_CHECK(2 * aligned(value_bytes(value)) <= pool.size_bytes(), "{} in a pool of {} bytes",
                   value.name, pool.size_bytes());
    } else if (value.kind != graph::ValueKind::intermediate) {
      auto& buffer = others_[value.name] = device.allocate(value_bytes(value), value.name);
      device.fill_zero(buffer.address(), buffer.size_bytes());
    }
  }
  arena_ = device.allocate(plan_.arena_bytes, "activations");
  device.fill_zero(arena_.address(), arena_.size_bytes());
}

std::size_t BenchMemory::largest_weight_bytes(const graph::Graph& graph) {
  std::size_t largest = 0;
  for (const auto& value : graph.values)
    if (value.kind == graph::ValueKind::weight)
      largest = std::max(largest, aligned(graph::value_bytes(value, {})));
  return largest;
}

std::size_t BenchMemory::value_bytes(const graph::Value& value) const {
  if (!is_cache(value)) return graph::value_bytes(value, largest_);
  // [n_blocks, G, block tokens, Dh]; the graph's own first dimension says nothing.
  auto bytes = static_cast<std::size_t>(n_kv_blocks_) * dtype_size_bytes(value.dtype);
  for (std::size_t i = 1; i < value.shape.size(); ++i)
    bytes *= static_cast<std::size_t>(value.shape[i].offset);
  return bytes;
}

void BenchMemory::write(const char* input, const std::vector<std::int32_t>& values) {
  const auto it = others_.find(input);
  if (it == others_.end()) return;  // a form that does not read it
  const auto bytes = std::as_bytes(std::span(values));
  NEREID_CHECK(bytes.size() <= it->second.size_bytes(), "{}: {} bytes", input, bytes.size());
  device_.upload(it->second.address(), bytes);
}

void BenchMemory::set_step(const StepShape& step) {
  const auto n = [](std::int64_t value) { return static_cast<std::int32_t>(value); };
  const auto n_columns = [&]() -> std::int64_t {
    const auto id = graph_.find(names::kBlockTables);
    return id < 0 ? 0 : graph::dim_value(graph_.value(id).shape[1], largest_);
  }();
  const auto n_blocks = (step.n_context + engine::kBlockTokens - 1) / engine::kBlockTokens;
  NEREID_CHECK(n_blocks <= n_columns && step.n_sequences * n_blocks <= n_kv_blocks_,
               "{} blocks a sequence, {} columns, {} blocks", n_blocks, n_columns, n_kv_blocks_);
  std::vector<std::int32_t> starts{0};
  std::vector<std::int32_t> contexts, tables, positions, slots;
  for (std::int64_t s = 0; s < step.n_sequences; ++s) {
    starts.push_back(n((s + 1) * step.n_query));
    contexts.push_back(n(step.n_context));
    for (std::int64_t b = 0; b < n_columns; ++b)
      tables.push_back(b < n_blocks ? n(s * n_blocks + b) : 0);
    for (std::int64_t q = 0; q < step.n_query; ++q) {
      const auto position = step.n_context - step.n_query + q;
      positions.push_back(n(position));
      slots.push_back(n(s * n_blocks * engine::kBlockTokens + position));
    }
  }
  write(names::kQueryStarts, starts);
  write(names::kContextLens, contexts);
  write(names::kBlockTables, tables);
  write(names::kPositions, positions);
  write(names::kSlots, slots);
}

std::size_t BenchMemory::pooled_bytes(const graph::Node& node) const {
  std::size_t bytes = 0;
  for (const auto id : node.reads())
    if (is_pooled(graph_.value(id))) bytes += aligned(value_bytes(graph_.value(id)));
  return bytes;
}

device::Address BenchMemory::address(graph::ValueId id, std::size_t& pool_offset) const {
  const auto& value = graph_.value(id);
  if (is_pooled(value)) {
    const auto bytes = value_bytes(value);
    if (pool_offset + bytes > pool_.size_bytes()) pool_offset = 0;
    const auto address = pool_.address() + pool_offset;
    pool_offset += aligned(bytes);
    return address;
  }
  if (value.kind != graph::ValueKind::intermediate) return others_.at(value.name).address();
  const auto offset = plan_.offsets[static_cast<std::size_t>(id)];
  // An operation in place on a state: an address of its kind will do, since nothing reads it after.
  if (offset == graph::MemoryPlan::kNotInArena)
    return address(graph::storage_of(graph_, id), pool_offset);
  return arena_.address() + offset;
}

}  // namespace nereid::measure
