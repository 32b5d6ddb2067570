#include "base/quantile.h"

#include <gtest/gtest.h>

namespace nereid {
namespace {

TEST(Quantile, TakesTheNearestRank) {
  EXPECT_EQ(quantile({3}, 0.99), 3);
  EXPECT_EQ(quantile({5, 1, 3}, 0.5), 3);
  EXPECT_EQ(quantile({5, 1, 4, 2, 3}, 0), 1);
  EXPECT_EQ(quantile({5, 1, 4, 2, 3}, 0.99), 5);
  std::vector<double> samples;
  for (int i = 100; i >= 0; --i) samples.push_back(i);
  EXPECT_EQ(quantile(samples, 0.99), 99);
  EXPECT_EQ(median({3, 1, 2}), 2);
}

TEST(QuantileDeathTest, OfNothingIsABug) { EXPECT_DEATH(median({}), "no samples"); }

}  // namespace
}  // namespace nereid
