#include "sched/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace nereid::sched {
namespace {

TEST(Sequence, StartsWithItsPrompt) {
  const Sequence sequence({.id = 7, .prompt_ids = {3, 1, 2}, .max_new_tokens = 5});
  EXPECT_EQ(sequence.id(), 7u);
  EXPECT_EQ(sequence.state(), SequenceState::created);
  EXPECT_THAT(sequence.prompt_ids(), testing::ElementsAre(3, 1, 2));
  EXPECT_TRUE(sequence.generated_ids().empty());
  EXPECT_EQ(sequence.n_cached_tokens(), 0);
  EXPECT_EQ(sequence.n_scheduled_tokens(), 0);
  EXPECT_EQ(sequence.n_pending_tokens(), 0);
  EXPECT_EQ(sequence.n_unscheduled_tokens(), 3);
  EXPECT_EQ(sequence.n_prefix_tokens(), 0);
  EXPECT_EQ(sequence.n_tokens(), 3);
  EXPECT_EQ(sequence.n_max_tokens(), 8);
  EXPECT_EQ(sequence.n_max_cached_tokens(), 7);  // the eighth is never fed back
  EXPECT_FALSE(sequence.is_exhausted());
  sequence.check_integrity();
}

TEST(Sequence, ScoredPromptIsCachedWhole) {
  const Sequence sequence({.id = 1, .prompt_ids = {3, 1, 2}, .want_all_logits = true});
  EXPECT_EQ(sequence.n_max_tokens(), 3);
  EXPECT_EQ(sequence.n_max_cached_tokens(), 3);
  EXPECT_FALSE(sequence.is_exhausted());
}

TEST(Sequence, RefusesNonsense) {
  EXPECT_THROW(Sequence({.id = 1, .max_new_tokens = 4}), Error);
  EXPECT_THROW(Sequence({.id = 1, .prompt_ids = {5}, .max_new_tokens = -1}), Error);
  EXPECT_THROW(Sequence({.id = 1, .prompt_ids = {5}, .max_new_tokens = 2147483647}), Error);
}

}  // namespace
}  // namespace nereid::sched
