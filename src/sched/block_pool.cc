#include "sched/block_pool.h"

#include <limits>

#include "base/error.h"

namespace nereid::sched {

BlockPool::BlockPool(std::int64_t n_blocks, std::int64_t block_tokens)
    : block_tokens_(std::int32_t(block_tokens)) {
  if (n_blocks < 1 || block_tokens < 1)
    throw Error("a KV cache of {} blocks of {} tokens; expected at least one of each", n_blocks,
                block_tokens);
  // Slots (block * block_tokens + offset) are 32-bit in the kernels.
  if (n_blocks > std::numeric_limits<std::int32_t>::max() / block_tokens)
    throw Error("a KV cache of {} blocks of {} tokens; expected fewer than 2^31 tokens in all",
                n_blocks, block_tokens);
  is_used_.assign(std::size_t(n_blocks), 0);
  free_.reserve(std::size_t(n_blocks));
  for (auto block = std::int32_t(n_blocks - 1); block >= 0; --block) free_.push_back(block);
}

std::int32_t BlockPool::blocks_for(std::int32_t n_tokens) const {
  return n_tokens / block_tokens_ + (n_tokens % block_tokens_ != 0);
}

std::int32_t BlockPool::allocate() {
  NEREID_CHECK(!free_.empty(), "none of {} KV blocks is free", n_blocks());
  const std::int32_t block = free_.back();
  free_.pop_back();
  is_used_[std::size_t(block)] = 1;
  return block;
}

void BlockPool::free(std::span<const std::int32_t> blocks) {
  for (const std::int32_t block : blocks) {
    NEREID_CHECK(block >= 0 && block < n_blocks() && is_used_[std::size_t(block)],
                 "KV block {} of {} is freed but not in use", block, n_blocks());
    is_used_[std::size_t(block)] = 0;
    free_.push_back(block);
  }
}

void BlockPool::check_integrity() const {
  std::vector<std::uint8_t> seen(is_used_);
  for (const std::int32_t block : free_) {
    NEREID_CHECK(block >= 0 && block < n_blocks() && !seen[std::size_t(block)],
                 "KV block {} of {} is in the free list and elsewhere", block, n_blocks());
    seen[std::size_t(block)] = 1;
  }
  for (std::size_t block = 0; block < seen.size(); ++block)
    NEREID_CHECK(seen[block], "KV block {} of {} is lost", block, n_blocks());
}

}  // namespace nereid::sched
