#include "sched/block_pool.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <ranges>
#include <unordered_set>

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
  blocks_.resize(std::size_t(n_blocks));
  buckets_.assign(std::bit_ceil(std::size_t(n_blocks)), kNone);
  ids_.assign(std::size_t(n_blocks * block_tokens), 0);
  for (auto block = std::int32_t(n_blocks - 1); block >= 0; --block) put_into_list(block);
}

std::int32_t BlockPool::blocks_for(std::int32_t n_tokens) const {
  return n_tokens / block_tokens_ + (n_tokens % block_tokens_ != 0);
}

std::int32_t BlockPool::allocate() {
  NEREID_CHECK(n_free_blocks_ > 0, "none of {} KV blocks is free", n_blocks());
  const std::int32_t block = unregistered_.first != kNone ? unregistered_.first : registered_.first;
  take_from_list(block);
  if (content(block) != 0) forget(block);
  at(block).n_references = 1;
  return block;
}

void BlockPool::share(std::span<const std::int32_t> blocks) {
  for (const std::int32_t block : blocks) {
    NEREID_CHECK(n_references(block) > 0 || content(block) != 0,
                 "KV block {} of {} is shared but holds nothing", block, n_blocks());
    if (n_references(block) == 0) take_from_list(block);
    at(block).n_references += 1;
  }
}

void BlockPool::free(std::span<const std::int32_t> blocks) {
  for (const std::int32_t block : std::views::reverse(blocks)) {
    NEREID_CHECK(n_references(block) > 0, "KV block {} of {} is freed but not in use", block,
                 n_blocks());
    at(block).n_references -= 1;
    if (n_references(block) == 0) put_into_list(block);
  }
}

std::int32_t BlockPool::find(ContentId root, std::span<const std::int32_t> ids,
                             std::span<std::int32_t> found) const {
  const auto n_tokens = std::size_t(block_tokens_);
  const std::size_t n_most = std::min(found.size(), ids.size() / n_tokens);
  ContentId parent = root;
  for (std::size_t i = 0; i < n_most; ++i) {
    const std::int32_t block = look_up(parent, ids.subspan(i * n_tokens, n_tokens));
    if (block == kNone) return std::int32_t(i);
    found[i] = block;
    parent = content(block);
  }
  return std::int32_t(n_most);
}

ContentId BlockPool::register_block(std::int32_t block, ContentId parent,
                                    std::span<const std::int32_t> ids) {
  NEREID_CHECK(n_references(block) > 0 && content(block) == 0 && parent != 0 &&
                   ids.size() == std::size_t(block_tokens_),
               "KV block {}: {} references, content {:#x}, {} ids after {:#x}", block,
               n_references(block), content(block), ids.size(), parent);
  const std::int32_t same = look_up(parent, ids);
  if (same != kNone) return content(same);
  if (CacheRoots::is_root(parent)) roots_.add_use(parent);
  std::ranges::copy(ids, ids_.begin() + std::ptrdiff_t(block) * block_tokens_);
  std::int32_t& bucket = buckets_[bucket_of(parent, ids)];
  Block& registered = at(block);
  registered.parent = parent;
  registered.content = ++n_contents_;
  registered.next_in_bucket = bucket;
  bucket = block;
  return registered.content;
}

BlockPool::Block& BlockPool::at(std::int32_t block) {
  NEREID_CHECK(block >= 0 && block < n_blocks(), "KV block {} of {}", block, n_blocks());
  return blocks_[std::size_t(block)];
}

const BlockPool::Block& BlockPool::at(std::int32_t block) const {
  NEREID_CHECK(block >= 0 && block < n_blocks(), "KV block {} of {}", block, n_blocks());
  return blocks_[std::size_t(block)];
}

std::span<const std::int32_t> BlockPool::ids_of(std::int32_t block) const {
  const auto n_tokens = std::size_t(block_tokens_);
  return std::span(ids_).subspan(std::size_t(block) * n_tokens, n_tokens);
}

std::size_t BlockPool::bucket_of(ContentId parent, std::span<const std::int32_t> ids) const {
  // The golden ratio's multiplier spreads neighbouring ids; the shift brings the high bits, which
  // depend on all, to where the mask reads.
  constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15;
  std::uint64_t hash = parent * kMultiplier;
  for (const std::int32_t id : ids) {
    hash = (hash ^ std::uint32_t(id)) * kMultiplier;
    hash ^= hash >> 32;
  }
  return std::size_t(hash) & (buckets_.size() - 1);
}

std::int32_t BlockPool::look_up(ContentId parent, std::span<const std::int32_t> ids) const {
  std::int32_t block = buckets_[bucket_of(parent, ids)];
  while (block != kNone && !(at(block).parent == parent && std::ranges::equal(ids_of(block), ids)))
    block = at(block).next_in_bucket;
  return block;
}

void BlockPool::put_into_list(std::int32_t block) {
  Block& freed = at(block);
  List& list = list_of(freed);
  // Registered blocks queue; of the others the last comes first.
  const bool is_at_end = freed.content != 0;
  freed.previous = is_at_end ? list.last : kNone;
  freed.next = is_at_end ? kNone : list.first;
  (freed.previous == kNone ? list.first : at(freed.previous).next) = block;
  (freed.next == kNone ? list.last : at(freed.next).previous) = block;
  n_free_blocks_ += 1;
}

void BlockPool::take_from_list(std::int32_t block) {
  Block& taken = at(block);
  List& list = list_of(taken);
  (taken.previous == kNone ? list.first : at(taken.previous).next) = taken.next;
  (taken.next == kNone ? list.last : at(taken.next).previous) = taken.previous;
  taken.previous = kNone;
  taken.next = kNone;
  n_free_blocks_ -= 1;
}

void BlockPool::forget(std::int32_t block) {
  Block& forgotten = at(block);
  std::int32_t* link = &buckets_[bucket_of(forgotten.parent, ids_of(block))];
  while (*link != block) link = &at(*link).next_in_bucket;
  *link = forgotten.next_in_bucket;
  if (CacheRoots::is_root(forgotten.parent)) roots_.release(forgotten.parent);
  forgotten.next_in_bucket = kNone;
  forgotten.content = 0;
  forgotten.parent = 0;
}

void BlockPool::check_integrity() const {
  std::vector<std::uint8_t> is_listed(blocks_.size(), 0);
  std::int32_t n_listed = 0;
  const auto check_list = [&](const List& list, bool is_registered) {
    std::int32_t previous = kNone;
    for (std::int32_t block = list.first; block != kNone; block = at(block).next) {
      NEREID_CHECK(n_references(block) == 0 && !is_listed[std::size_t(block)] &&
                       at(block).previous == previous && (content(block) != 0) == is_registered,
                   "KV block {} of {} is in a free list and elsewhere", block, n_blocks());
      is_listed[std::size_t(block)] = 1;
      n_listed += 1;
      previous = block;
    }
    NEREID_CHECK(list.last == previous, "a free list ends at KV block {}, not at {}", previous,
                 list.last);
  };
  check_list(unregistered_, false);
  check_list(registered_, true);
  NEREID_CHECK(n_listed == n_free_blocks_, "{} KV blocks in the free lists, {} counted", n_listed,
               n_free_blocks_);

  std::int32_t n_chained = 0;
  for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    for (std::int32_t block = buckets_[bucket]; block != kNone; block = at(block).next_in_bucket) {
      // Found by its own content: no other block holds the same. Also ends a chain that is a ring.
      NEREID_CHECK(look_up(at(block).parent, ids_of(block)) == block &&
                       bucket_of(at(block).parent, ids_of(block)) == bucket,
                   "KV block {} is not where its content is looked up", block);
      n_chained += 1;
    }
  }
  std::unordered_set<ContentId> contents;
  for (std::int32_t block = 0; block < n_blocks(); ++block) {
    NEREID_CHECK(n_references(block) > 0 || is_listed[std::size_t(block)],
                 "KV block {} of {} is lost", block, n_blocks());
    if (content(block) == 0) continue;
    NEREID_CHECK(content(block) <= n_contents_ && contents.insert(content(block)).second,
                 "KV block {} has the content number {} of another", block, content(block));
    NEREID_CHECK(!CacheRoots::is_root(at(block).parent) || roots_.n_uses(at(block).parent) > 0,
                 "KV block {} is registered under a root that is gone", block);
  }
  NEREID_CHECK(n_chained == std::int32_t(contents.size()),
               "{} KV blocks can be found, {} are registered", n_chained, contents.size());
}

}  // namespace nereid::sched
