#include "sched/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace nereid::sched {
namespace {

TEST(Sequence, StartsWithItsPrompt) {
  const Sequence sequence(7, {3, 1, 2}, 5);
  EXPECT_EQ(sequence.id(), 7u);
  EXPECT_EQ(sequence.state(), SequenceState::created);
  EXPECT_THAT(sequence.prompt_ids(), testing::ElementsAre(3, 1, 2));
  EXPECT_TRUE(sequence.generated_ids().empty());
  EXPECT_EQ(sequence.n_cached_tokens(), 0);
  EXPECT_EQ(sequence.n_scheduled_tokens(), 0);
  EXPECT_EQ(sequence.n_tokens(), 3);
  EXPECT_EQ(sequence.n_max_tokens(), 8);
  EXPECT_EQ(sequence.n_max_cached_tokens(), 7);  // the eighth is never fed back
  EXPECT_FALSE(sequence.is_exhausted());
  sequence.check_integrity();
}

TEST(Sequence, ScoredPromptIsCachedWhole) {
  const Sequence sequence(1, {3, 1, 2}, 0, true);
  EXPECT_EQ(sequence.n_max_tokens(), 3);
  EXPECT_EQ(sequence.n_max_cached_tokens(), 3);
  EXPECT_FALSE(sequence.is_exhausted());
}

TEST(Sequence, RefusesNonsense) {
  EXPECT_THROW(Sequence(1, {}, 4), Error);
  EXPECT_THROW(Sequence(1, {5}, -1), Error);
  EXPECT_THROW(Sequence(1, {5}, 2147483647), Error);
}

}  // namespace
}  // namespace nereid::sched
