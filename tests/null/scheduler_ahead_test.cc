// The next step made while one is in flight: what is fed back before it is known, ends and failures
// in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "null/cache_model.h"
#include "sched/scheduler.h"

namespace nereid::sched {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(SchedulerAhead, FeedsBackWhatIsNotKnownYetByItsRow) {
  const auto limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence scored = make(1, prompt(12, 300), 0, true);
  Sequence a = make(2, prompt(4), 3);
  Sequence b = make(3, prompt(6, 50), 2);
  for (Sequence* sequence : {&scored, &a, &b}) scheduler.add(*sequence);

  const StepBatch& first = scheduler.schedule();
  const auto first_ids = model.run(first);
  EXPECT_EQ(a.n_pending_tokens(), 1);
  EXPECT_EQ(a.n_unscheduled_tokens(), 1);
  const StepBatch& second = scheduler.schedule();
  ASSERT_NE(&first, &second);
  EXPECT_THAT(batch_ids(second), ElementsAre(2, 3));
  EXPECT_EQ(second.n_decodes, 2);
  EXPECT_THAT(second.token_ids, ElementsAre(-1, -2));  // rows 0 and 1 of the first step
  EXPECT_THAT(second.positions, ElementsAre(4, 6));
  EXPECT_EQ(a.n_pending_tokens(), 2);
  EXPECT_EQ(scheduler.n_steps_in_flight(), 2);
  const auto second_ids = model.run(second);
  scheduler.check_integrity();

  scheduler.complete(first_ids);
  scheduler.finish(scored);
  EXPECT_EQ(a.n_cached_tokens(), 4);
  EXPECT_EQ(a.n_tokens(), 5);
  // b's second token is its last and under way: it has nothing to bring.
  const StepBatch& third = scheduler.schedule();
  EXPECT_THAT(batch_ids(third), ElementsAre(2));
  EXPECT_THAT(third.token_ids, ElementsAre(-1));
  const auto third_ids = model.run(third);
  EXPECT_FALSE(b.is_exhausted());
  scheduler.complete(second_ids);
  EXPECT_TRUE(b.is_exhausted());
  scheduler.finish(b);

  // a's third is under way too.
  EXPECT_FALSE(a.is_exhausted());
  const StepBatch& nothing = scheduler.schedule();
  EXPECT_EQ(nothing.n_tokens, 0);
  EXPECT_FALSE(nothing.is_short_of_blocks);
  EXPECT_EQ(scheduler.schedule().n_tokens, 0);
  EXPECT_THAT(third.token_ids, ElementsAre(-1)) << "an empty step takes no other's place";
  scheduler.complete(third_ids);
  EXPECT_TRUE(a.is_exhausted());
  EXPECT_THAT(a.generated_ids(), testing::ElementsAreArray(generate_alone(prompt(4), 3)));
  EXPECT_THAT(b.generated_ids(), testing::ElementsAreArray(generate_alone(prompt(6, 50), 2)));
  scheduler.check_integrity();
}

TEST(SchedulerAhead, AKnownIdIsFedBackAsItIs) {
  const auto limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a = make(1, prompt(4), 3);
  scheduler.add(a);
  scheduler.complete(model.run(scheduler.schedule()));
  EXPECT_THAT(scheduler.schedule().token_ids, ElementsAre(generate_alone(prompt(4), 1)[0]));
}

TEST(SchedulerAhead, WaitsForTheStepInFlightBeforeItPreempts) {
  auto limits = small_limits();
  limits.n_kv_blocks = 4;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a = make(1, prompt(9), 20);
  Sequence b = make(2, prompt(4, 70), 20);
  scheduler.add(a);
  scheduler.add(b);
  std::vector<std::vector<std::int32_t>> results;
  while (true) {
    const StepBatch& batch = scheduler.schedule();
    if (batch.n_tokens == 0) {
      EXPECT_TRUE(batch.is_short_of_blocks);
      break;
    }
    results.push_back(model.run(batch));
    if (scheduler.n_steps_in_flight() == 2) {
      scheduler.complete(results.front());
      results.erase(results.begin());
    }
    ASSERT_LT(a.n_generated_tokens(), 20);
  }
  scheduler.check_integrity();
  EXPECT_EQ(scheduler.n_preemptions(), 0);
  EXPECT_EQ(scheduler.n_steps_in_flight(), 1);
  scheduler.complete(results.front());
  const StepBatch& batch = scheduler.schedule();
  EXPECT_THAT(batch_ids(batch), ElementsAre(1));
  EXPECT_FALSE(batch.is_short_of_blocks);
  EXPECT_EQ(b.n_preemptions(), 1);
}

TEST(SchedulerAhead, StepsInFlightForgetWhoIsFinished) {
  const auto limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a = make(1, prompt(4), 5);
  Sequence b = make(2, prompt(6, 50), 5);
  scheduler.add(a);
  scheduler.add(b);
  const StepBatch& first = scheduler.schedule();
  const auto first_ids = model.run(first);
  const StepBatch& second = scheduler.schedule();
  const auto second_ids = model.run(second);
  scheduler.finish(a);
  EXPECT_EQ(scheduler.pool().n_used_blocks(), 1);
  EXPECT_THAT(first.sequences, ElementsAre(nullptr, &b));
  EXPECT_THAT(first.row_sequences, ElementsAre(nullptr, &b));
  EXPECT_THAT(second.sequences, ElementsAre(nullptr, &b));
  scheduler.check_integrity();
  scheduler.complete(first_ids);
  EXPECT_TRUE(a.generated_ids().empty());
  scheduler.finish(b);
  scheduler.complete(second_ids);
  EXPECT_FALSE(scheduler.has_work());
  EXPECT_EQ(scheduler.pool().n_used_blocks(), 0);
  scheduler.check_integrity();
}

TEST(SchedulerAhead, AfterAFailureGoesOnFromWhatWasCached) {
  const auto limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a = make(1, prompt(4), 5);
  Sequence b = make(2, prompt(40, 50), 5);
  scheduler.add(a);
  scheduler.complete(model.run(scheduler.schedule()));
  EXPECT_THAT(scheduler.in_flight_sequences(), IsEmpty());
  scheduler.add(b);
  model.spoil(scheduler.schedule().slot_mapping);
  model.spoil(scheduler.schedule().slot_mapping);
  EXPECT_THAT(scheduler.in_flight_sequences(), ElementsAre(&a, &b));
  scheduler.fail();
  scheduler.check_integrity();
  EXPECT_EQ(scheduler.n_steps_in_flight(), 0);
  EXPECT_THAT(scheduler.in_flight_sequences(), IsEmpty());
  EXPECT_EQ(a.n_pending_tokens(), 0);
  EXPECT_EQ(a.n_cached_tokens(), 4);
  EXPECT_EQ(b.n_scheduled_tokens(), 0);
  while (scheduler.has_work()) {
    scheduler.complete(model.run(scheduler.schedule()));
    for (Sequence* sequence : {&a, &b})
      if (sequence->state() == SequenceState::running && sequence->is_exhausted())
        scheduler.finish(*sequence);
  }
  EXPECT_THAT(a.generated_ids(), testing::ElementsAreArray(generate_alone(prompt(4), 5)));
  EXPECT_THAT(b.generated_ids(), testing::ElementsAreArray(generate_alone(prompt(40, 50), 5)));
}

}  // namespace
}  // namespace nereid::sched
