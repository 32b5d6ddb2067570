// Goal: which blocks of the paged KV cache are free. A block: `block_tokens` positions, all layers.
// Non-goal: the memory itself (the engine's buffer), or sharing a block between sequences.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace nereid::sched {

class BlockPool {
 public:
  BlockPool(std::int64_t n_blocks, std::int64_t block_tokens);

  std::int32_t n_blocks() const { return std::int32_t(is_used_.size()); }
  std::int32_t block_tokens() const { return block_tokens_; }
  std::int32_t n_free_blocks() const { return std::int32_t(free_.size()); }
  std::int32_t n_used_blocks() const { return n_blocks() - n_free_blocks(); }

  // Blocks that `n_tokens` positions take.
  std::int32_t blocks_for(std::int32_t n_tokens) const;

  // The caller has seen that there is a free block. Neither call allocates host memory.
  std::int32_t allocate();
  void free(std::span<const std::int32_t> blocks);

  // Every block is in use or once in the free list.
  void check_integrity() const;

 private:
  std::int32_t block_tokens_;
  std::vector<std::int32_t> free_;     // last freed, first used: still warm in caches
  std::vector<std::uint8_t> is_used_;  // [n_blocks]
};

}  // namespace nereid::sched
