// Goal: the blocks of the paged KV cache: how many use each, which are free, and what the free and
// the used ones hold, so that prompts that start alike are computed once. A block: `block_tokens`
// positions, all layers.
// Non-goal: the memory itself (the program's states); who waits for whom (the scheduler).
// Rejected: trusting a hash for a block's content: two users' prompts must never be mixed up. What
// is found is compared, token by token, under a parent known in the same way. Rejected: freeing
// what is registered. It is found until its block is needed.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "sched/cache_roots.h"

namespace nereid::sched {

class BlockPool {
 public:
  BlockPool(std::int64_t n_blocks, std::int64_t block_tokens);

  std::int32_t n_blocks() const { return std::int32_t(blocks_.size()); }
  std::int32_t block_tokens() const { return block_tokens_; }
  std::int32_t n_free_blocks() const { return n_free_blocks_; }
  std::int32_t n_used_blocks() const { return n_blocks() - n_free_blocks(); }
  std::int32_t n_references(std::int32_t block) const { return at(block).n_references; }

  // Blocks that `n_tokens` positions take.
  std::int32_t blocks_for(std::int32_t n_tokens) const;

  // None of the calls below allocates host memory, but acquire_root().

  // A block with one reference, whose content is the caller's. The caller has seen that there is a
  // free one. What was registered is taken last, the least recently used first, and forgotten.
  std::int32_t allocate();
  // One reference more for each: blocks in use (a fork of a sequence) or found.
  void share(std::span<const std::int32_t> blocks);
  // One reference less for each block of a sequence, first to last. The last is reused first: the
  // start of a prompt is worth more than its end.
  void free(std::span<const std::int32_t> blocks);

  // Blocks are known from a root on: the salt's. It lives until it is released and no block is
  // registered under it.
  ContentId acquire_root(std::string_view salt) { return roots_.acquire(salt); }
  void release_root(ContentId root) { roots_.release(root); }

  // The longest chain of registered blocks that holds the start of `ids`: written to `found`, whose
  // size bounds it. Their number.
  std::int32_t find(ContentId root, std::span<const std::int32_t> ids,
                    std::span<std::int32_t> found) const;
  // The block is in use and holds `ids` [block_tokens] after what `parent` stands for. Gives what
  // both together stand for. Where another block holds the same, that one stays the registered one.
  ContentId register_block(std::int32_t block, ContentId parent, std::span<const std::int32_t> ids);
  // 0: not registered.
  ContentId content(std::int32_t block) const { return at(block).content; }

  // Every block is in use or once in the free list of its kind; every registered one, and no other,
  // is where a look-up of its content looks.
  void check_integrity() const;

 private:
  static constexpr std::int32_t kNone = -1;

  struct Block {
    std::int32_t n_references = 0;
    std::int32_t previous = kNone;  // in the list of free blocks
    std::int32_t next = kNone;
    std::int32_t next_in_bucket = kNone;
    ContentId content = 0;  // 0: not registered
    ContentId parent = 0;
  };
  struct List {
    std::int32_t first = kNone;  // the next to be allocated
    std::int32_t last = kNone;
  };

  Block& at(std::int32_t block);
  const Block& at(std::int32_t block) const;
  std::span<const std::int32_t> ids_of(std::int32_t block) const;
  std::size_t bucket_of(ContentId parent, std::span<const std::int32_t> ids) const;
  std::int32_t look_up(ContentId parent, std::span<const std::int32_t> ids) const;
  List& list_of(const Block& block) { return block.content == 0 ? unregistered_ : registered_; }
  void put_into_list(std::int32_t block);
  void take_from_list(std::int32_t block);
  void forget(std::int32_t block);

  std::int32_t block_tokens_;
  std::int32_t n_free_blocks_ = 0;
  std::vector<Block> blocks_;
  List unregistered_;                  // free; last freed, first used: still warm in caches
  List registered_;                    // free and findable; least recently used first
  std::vector<std::int32_t> buckets_;  // [power of two] first block of the chain
  std::vector<std::int32_t> ids_;      // [n_blocks, block_tokens] of registered blocks
  CacheRoots roots_;
  ContentId n_contents_ = 0;  // numbers given so far: none is given twice
};

}  // namespace nereid::sched
