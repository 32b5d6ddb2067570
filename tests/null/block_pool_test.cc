#include "sched/block_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace nereid::sched {
namespace {

TEST(BlockPool, HandsOutEveryBlockOnce) {
  BlockPool pool(5, 64);
  std::set<std::int32_t> blocks;
  for (int i = 0; i < 5; ++i) blocks.insert(pool.allocate());
  EXPECT_THAT(blocks, testing::ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(pool.n_free_blocks(), 0);
  EXPECT_EQ(pool.n_used_blocks(), 5);
  pool.check_integrity();
}

TEST(BlockPool, RoundsTokensUpToBlocks) {
  const BlockPool pool(1, 64);
  EXPECT_EQ(pool.blocks_for(0), 0);
  EXPECT_EQ(pool.blocks_for(1), 1);
  EXPECT_EQ(pool.blocks_for(64), 1);
  EXPECT_EQ(pool.blocks_for(65), 2);
  EXPECT_EQ(pool.blocks_for(2147483647), 33554432);
}

TEST(BlockPool, RefusesImpossibleSizes) {
  EXPECT_THROW(BlockPool(0, 64), Error);
  EXPECT_THROW(BlockPool(4, 0), Error);
  EXPECT_THROW(BlockPool(-1, 64), Error);
  EXPECT_THROW(BlockPool(33554432, 64), Error);  // 2^31 slots
}

TEST(BlockPool, RandomUseKeepsEveryBlock) {
  std::mt19937 random(7);
  BlockPool pool(37, 16);
  std::vector<std::int32_t> held;
  for (int step = 0; step < 5000; ++step) {
    if (random() % 2 == 0 && pool.n_free_blocks() > 0) {
      const std::int32_t block = pool.allocate();
      ASSERT_EQ(std::ranges::count(held, block), 0);
      held.push_back(block);
    } else if (!held.empty()) {
      const std::size_t n = random() % held.size() + 1;
      pool.free(std::span(held).last(n));
      held.resize(held.size() - n);
    }
    ASSERT_EQ(pool.n_used_blocks(), std::int32_t(held.size()));
    pool.check_integrity();
  }
}

TEST(BlockPoolDeathTest, AbortsOnDoubleFreeAndOnExhaustion) {
  BlockPool pool(1, 64);
  const std::vector<std::int32_t> block{pool.allocate()};
  EXPECT_DEATH(pool.allocate(), "none of 1 KV blocks is free");
  pool.free(block);
  EXPECT_DEATH(pool.free(block), "freed but not in use");
}

using Ids = std::vector<std::int32_t>;

// A chain of full blocks that holds `ids` under the salt; as a sequence would make it.
Ids registered_chain(BlockPool& pool, const std::string& salt, const Ids& ids) {
  const ContentId root = pool.acquire_root(salt);
  ContentId content = root;
  Ids blocks;
  const auto n_tokens = std::size_t(pool.block_tokens());
  for (std::size_t i = 0; i < ids.size(); i += n_tokens) {
    blocks.push_back(pool.allocate());
    content = pool.register_block(blocks.back(), content, std::span(ids).subspan(i, n_tokens));
  }
  pool.release_root(root);
  return blocks;
}

Ids find(BlockPool& pool, const std::string& salt, const Ids& ids) {
  const ContentId root = pool.acquire_root(salt);
  Ids found(ids.size());
  found.resize(std::size_t(pool.find(root, ids, found)));
  pool.release_root(root);
  return found;
}

TEST(BlockPool, FindsOnlyWhatIsTheSameFromTheRootOn) {
  BlockPool pool(8, 2);
  const Ids blocks = registered_chain(pool, "", {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(find(pool, "", {1, 2, 3, 4, 5, 6, 7, 8}), blocks);
  EXPECT_EQ(find(pool, "", {1, 2, 3, 4, 5}), Ids(blocks.begin(), blocks.begin() + 2));
  EXPECT_EQ(find(pool, "", {1, 2, 9, 4, 5, 6}), Ids(blocks.begin(), blocks.begin() + 1));
  EXPECT_THAT(find(pool, "", {3, 4, 5, 6}), testing::IsEmpty());
  EXPECT_THAT(find(pool, "other", {1, 2, 3, 4}), testing::IsEmpty());
  pool.free(blocks);
  EXPECT_EQ(find(pool, "", {1, 2, 3, 4, 5, 6}), blocks) << "free, not reused";
  EXPECT_EQ(pool.n_used_blocks(), 0);
}

TEST(BlockPool, ReusesTheEndOfTheLeastRecentlyUsedPrefixFirst) {
  BlockPool pool(5, 1);
  const Ids old = registered_chain(pool, "", {1, 2});
  const Ids newer = registered_chain(pool, "", {7, 8});
  pool.free(old);
  pool.free(newer);
  const std::int32_t unregistered = pool.allocate();
  EXPECT_THAT(old, testing::Not(testing::Contains(unregistered)));
  EXPECT_THAT(newer, testing::Not(testing::Contains(unregistered)));
  // Used again, and so the last to go.
  pool.share(old);
  pool.free(old);
  for (const std::int32_t block : {newer[1], newer[0], old[1], old[0]}) {
    EXPECT_EQ(pool.allocate(), block);
    EXPECT_EQ(pool.content(block), 0u);
    pool.check_integrity();
  }
}

TEST(BlockPool, KeepsTheFirstOfTwoThatHoldTheSame) {
  BlockPool pool(8, 1);
  const Ids first = registered_chain(pool, "s", {1, 2});
  const Ids second = registered_chain(pool, "s", {1, 2, 3});
  EXPECT_EQ(pool.content(second[0]), 0u);
  EXPECT_EQ(pool.content(second[1]), 0u);
  EXPECT_EQ(find(pool, "s", {1, 2, 3}), (Ids{first[0], first[1], second[2]}));
}

TEST(BlockPool, ASharedBlockIsFreeAfterItsLastUser) {
  BlockPool pool(2, 1);
  const Ids blocks{pool.allocate(), pool.allocate()};
  pool.share(blocks);
  pool.free(blocks);
  EXPECT_EQ(pool.n_free_blocks(), 0);
  pool.free(blocks);
  EXPECT_EQ(pool.n_free_blocks(), 2);
}

TEST(CacheRoots, ASaltLivesWhileItIsUsed) {
  CacheRoots roots;
  const ContentId none = roots.acquire("");
  const ContentId salt = roots.acquire("a");
  EXPECT_NE(none, salt);
  EXPECT_EQ(roots.acquire("a"), salt);
  roots.release(salt);
  EXPECT_EQ(roots.n_uses(salt), 1);
  roots.release(salt);
  EXPECT_EQ(roots.n_uses(salt), 0);
  EXPECT_EQ(roots.size(), 1);
  EXPECT_EQ(roots.acquire("b"), salt) << "the number is free again";
}

// The pool said again with maps and lists, and nothing shared with it but the numbers of blocks.
class NaivePool {
 public:
  NaivePool(std::int32_t n_blocks, std::size_t block_tokens) : block_tokens_(block_tokens) {
    for (std::int32_t block = n_blocks - 1; block >= 0; --block) unregistered_.push_back(block);
  }

  std::size_t n_free() const { return unregistered_.size() + registered_.size(); }

  std::int32_t allocate() {
    std::int32_t block = 0;
    if (!unregistered_.empty()) {
      block = unregistered_.back();
      unregistered_.pop_back();
    } else {
      block = registered_.front();
      registered_.pop_front();
      by_content_.erase(contents_.at(block));
      contents_.erase(block);
    }
    n_references_[block] = 1;
    return block;
  }

  void share(const Ids& blocks) {
    for (const std::int32_t block : blocks)
      if (n_references_[block]++ == 0) registered_.remove(block);
  }

  void free(const Ids& blocks) {
    for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
      if (--n_references_.at(*block) > 0) continue;
      if (contents_.contains(*block))
        registered_.push_back(*block);
      else
        unregistered_.push_back(*block);
    }
  }

  // Parents are named by the number of their registration: -1 - salt for the roots.
  using Content = std::pair<int, Ids>;

  Ids find(int salt, const Ids& ids) const {
    Ids found;
    int parent = -1 - salt;
    for (std::size_t i = 0; i + block_tokens_ <= ids.size(); i += block_tokens_) {
      const auto entry = by_content_.find({parent, slice(ids, i)});
      if (entry == by_content_.end()) break;
      found.push_back(entry->second.first);
      parent = entry->second.second;
    }
    return found;
  }

  int register_block(std::int32_t block, int parent, const Ids& ids) {
    const auto [entry, is_new] =
        by_content_.try_emplace({parent, ids}, std::pair(block, n_registered_));
    if (is_new) {
      contents_[block] = entry->first;
      ++n_registered_;
    }
    return entry->second.second;
  }

  Ids slice(const Ids& ids, std::size_t begin) const {
    return {ids.begin() + std::ptrdiff_t(begin),
            ids.begin() + std::ptrdiff_t(begin + block_tokens_)};
  }

  std::int32_t n_references(std::int32_t block) const {
    const auto entry = n_references_.find(block);
    return entry == n_references_.end() ? 0 : entry->second;
  }
  bool is_registered(std::int32_t block) const { return contents_.contains(block); }

 private:
  std::size_t block_tokens_;
  std::vector<std::int32_t> unregistered_;
  std::list<std::int32_t> registered_;
  std::map<std::int32_t, std::int32_t> n_references_;
  std::map<std::int32_t, Content> contents_;
  std::map<Content, std::pair<std::int32_t, int>> by_content_;
  int n_registered_ = 0;
};

struct Table {
  int salt;
  ContentId root;
  Ids ids;
  Ids blocks;
  ContentId content;
  int naive_content;
};

struct Counts {
  int n_found = 0;
  int n_reused = 0;
  int n_forks = 0;
};

void use_at_random(std::uint32_t seed, int n_operations, Counts& counts) {
  std::mt19937 random(seed);
  const auto below = [&](std::size_t n) { return std::size_t(random()) % n; };
  const std::int32_t n_blocks = 1 + std::int32_t(below(40));
  const std::size_t block_tokens = 1 + below(3);
  const std::size_t n_ids = 1 + below(3);  // few: much is the same
  BlockPool pool(n_blocks, std::int64_t(block_tokens));
  NaivePool naive(n_blocks, block_tokens);
  std::vector<Table> tables;

  const auto draw_ids = [&](std::size_t n) {
    Ids ids(n);
    for (auto& id : ids) id = std::int32_t(below(n_ids));
    return ids;
  };
  const auto extend = [&](Table& table, const Ids& block_ids) {
    const bool takes_registered = [&] {
      for (std::int32_t block = 0; block < n_blocks; ++block)
        if (naive.n_references(block) == 0 && !naive.is_registered(block)) return false;
      return true;
    }();
    counts.n_reused += takes_registered;
    const std::int32_t block = pool.allocate();
    ASSERT_EQ(block, naive.allocate());
    table.blocks.push_back(block);
    table.ids.insert(table.ids.end(), block_ids.begin(), block_ids.end());
    // Some stay unregistered, as the last block of a sequence does; what follows is then unknown.
    if (table.content == 0 || below(5) == 0) {
      table.content = 0;
      return;
    }
    table.content = pool.register_block(block, table.content, block_ids);
    table.naive_content = naive.register_block(block, table.naive_content, block_ids);
  };

  for (int operation = 0; operation < n_operations; ++operation) {
    const std::size_t kind = tables.empty() ? 0 : below(8);
    if (kind == 0) {
      Table table{.salt = int(below(3)),
                  .root = 0,
                  .ids = {},
                  .blocks = {},
                  .content = 0,
                  .naive_content = 0};
      table.root = pool.acquire_root(std::string(std::size_t(table.salt), 'x'));
      const Ids ids = draw_ids(below(6 * block_tokens));
      table.blocks.resize(below(7));
      const std::size_t n_most = table.blocks.size();
      table.blocks.resize(std::size_t(pool.find(table.root, ids, table.blocks)));
      Ids expected = naive.find(table.salt, ids);
      expected.resize(std::min(expected.size(), n_most));
      ASSERT_EQ(table.blocks, expected);
      counts.n_found += int(expected.size());
      pool.share(table.blocks);
      naive.share(table.blocks);
      table.ids.assign(ids.begin(),
                       ids.begin() + std::ptrdiff_t(table.blocks.size() * block_tokens));
      table.content = table.root;
      table.naive_content = -1 - table.salt;
      // The numbers of a chain's end, had by registering what is there again.
      for (std::size_t i = 0; i < table.blocks.size(); ++i) {
        table.content = pool.content(table.blocks[i]);
        table.naive_content = naive.register_block(table.blocks[i], table.naive_content,
                                                   naive.slice(table.ids, i * block_tokens));
      }
      tables.push_back(table);
    } else if (kind < 5) {
      if (naive.n_free() > 0) extend(tables[below(tables.size())], draw_ids(block_tokens));
    } else if (kind == 5 && tables.size() < 20) {
      Table fork = tables[below(tables.size())];
      fork.root = pool.acquire_root(std::string(std::size_t(fork.salt), 'x'));
      pool.share(fork.blocks);
      naive.share(fork.blocks);
      tables.push_back(fork);
      counts.n_forks += 1;
    } else if (kind > 5) {
      const std::size_t i = below(tables.size());
      pool.free(tables[i].blocks);
      naive.free(tables[i].blocks);
      pool.release_root(tables[i].root);
      tables.erase(tables.begin() + std::ptrdiff_t(i));
    }
    pool.check_integrity();
    ASSERT_EQ(std::size_t(pool.n_free_blocks()), naive.n_free());
    for (std::int32_t block = 0; block < n_blocks; ++block) {
      ASSERT_EQ(pool.n_references(block), naive.n_references(block));
      ASSERT_EQ(pool.content(block) != 0, naive.is_registered(block));
    }
  }
}

TEST(BlockPool, RandomForksExtensionsAndFreesAgreeWithANaivePool) {
  Counts counts;
  for (std::uint32_t seed = 0; seed < 200 && !HasFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    use_at_random(seed, 500, counts);
  }
  // Else the draws test nothing.
  EXPECT_GT(counts.n_found, 1000);
  EXPECT_GT(counts.n_reused, 1000);
  EXPECT_GT(counts.n_forks, 1000);
}

TEST(BlockPoolDeathTest, AbortsOnWhatCannotBe) {
  BlockPool pool(2, 2);
  const Ids block{pool.allocate()};
  EXPECT_DEATH(pool.register_block(block[0], 0, block), "ids after");
  EXPECT_DEATH(pool.share(Ids{1}), "holds nothing");
  EXPECT_DEATH(pool.share(Ids{2}), "KV block 2 of 2");
}

}  // namespace
}  // namespace nereid::sched
