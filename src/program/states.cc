#include "program/states.h"

#include <algorithm>

#include "base/error.h"
#include "model/architecture.h"

namespace nereid::program {

namespace {

// Of the memory that is free once weights and activations have theirs, the part a KV cache may
// take: the rest is for other programs, and on the processor for the page cache.
constexpr double kKvShareOfFree = 0.8;

// More than any kernel or tensor map asks of an address.
constexpr std::size_t kCacheAlignmentBytes = 256;

double gib(std::size_t block_bytes, std::int64_t n_blocks) {
  return static_cast<double>(block_bytes) * static_cast<double>(n_blocks) / (1 << 30);
}

void choose_blocks(const device::Device& device, std::size_t block_bytes,
                   const States::Agree& agree, sched::Limits& limits) {
  const auto affordable =
      agree(static_cast<std::int64_t>(static_cast<double>(device.free_bytes()) * kKvShareOfFree /
                                      static_cast<double>(block_bytes)));
  const auto blocks_of_one = limits.max_blocks_per_sequence();
  const auto wanted = limits.n_kv_blocks > 0 ? limits.n_kv_blocks : blocks_of_one;
  if (wanted > affordable)
    throw Error(
        ErrorCode::device,
        "a KV cache of {} blocks ({} tokens, {:.2f} GiB) does not fit the memory of {}: {:.2f} GiB "
        "are free for it; choose a smaller --context or --kv-blocks",
        wanted, wanted * limits.block_tokens, gib(block_bytes, wanted), device.info().name,
        gib(block_bytes, affordable));
  if (limits.n_kv_blocks == 0)
    limits.n_kv_blocks = std::min(affordable, blocks_of_one * limits.max_sequences);
}

}  // namespace

bool is_cache(const graph::Value& value) {
  return value.kind == graph::ValueKind::state &&
         value.name.starts_with(model::names::kCachePrefix);
}

std::size_t cache_bytes(const graph::Value& value, std::int64_t n_blocks) {
  auto bytes = static_cast<std::size_t>(n_blocks) * dtype_size_bytes(value.dtype);
  for (std::size_t i = 1; i < value.shape.size(); ++i)
    bytes *= static_cast<std::size_t>(value.shape[i].offset);
  return bytes;
}

void States::allocate(device::Device& device, const std::vector<graph::Value>& values,
                      const graph::Sizes& largest, const Agree& agree, sched::Limits& limits) {
  std::size_t block_bytes = 0;
  for (const auto& value : values)
    if (is_cache(value)) block_bytes += cache_bytes(value, 1);
  choose_blocks(device, block_bytes, agree, limits);
  // One piece of memory for the caches of all layers: asking for many takes milliseconds.
  std::size_t pool_bytes = 0;
  for (const auto& value : values) {
    if (is_cache(value)) {
      addresses_[value.name] = pool_bytes;
      pool_bytes += cache_bytes(value, limits.n_kv_blocks);
      pool_bytes = (pool_bytes + kCacheAlignmentBytes - 1) & ~(kCacheAlignmentBytes - 1);
      continue;
    }
    if (value.name.starts_with(model::names::kExchangePrefix)) continue;
    const auto size_bytes = graph::value_bytes(value, largest);
    buffers_.push_back(device.allocate(size_bytes, value.name));
    addresses_[value.name] = buffers_.back().address();
    device.fill_zero(buffers_.back().address(), size_bytes);
  }
  // Not filled: caches are read only where they were written.
  caches_ = device.allocate(pool_bytes, "KV cache");
  for (const auto& value : values)
    if (is_cache(value)) addresses_[value.name] += caches_.address();
}

}  // namespace nereid::program
