#include "sched/block_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
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

}  // namespace
}  // namespace nereid::sched
