#include "sched/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "base/error.h"
#include "null/cache_model.h"

namespace nereid::sched {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Scheduler, SeveralPromptsShareOneStepInOrder) {
  const auto limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a = make(1, prompt(10), 4);
  Sequence b = make(2, prompt(5, 50), 4);
  Sequence c = make(3, prompt(40, 90), 4);
  for (Sequence* sequence : {&a, &b, &c}) scheduler.add(*sequence);

  const StepBatch& batch = scheduler.schedule();
  EXPECT_THAT(batch_ids(batch), ElementsAre(1, 2, 3));
  EXPECT_THAT(batch.cu_seqlens, ElementsAre(0, 10, 15, 32));  // c is cut to the rest of the budget
  EXPECT_THAT(batch.context_lens, ElementsAre(10, 5, 17));
  EXPECT_THAT(batch.logit_rows, ElementsAre(9, 14));  // c's prompt is not done: no row
  EXPECT_EQ(batch.max_q_len, 17);
  EXPECT_EQ(batch.max_context_len, 17);
  EXPECT_EQ(batch.n_decodes, 0);
  scheduler.complete(model.run(batch));

  const StepBatch& second = scheduler.schedule();
  EXPECT_EQ(second.n_decodes, 2);
  EXPECT_THAT(batch_ids(second), ElementsAre(1, 2, 3));
  EXPECT_THAT(second.cu_seqlens, ElementsAre(0, 1, 2, 25));
  EXPECT_THAT(second.positions[0], 10);
  EXPECT_THAT(second.positions[2], 17);
  EXPECT_THAT(second.logit_rows, ElementsAre(0, 1, 24));
  scheduler.complete(model.run(second));
  EXPECT_EQ(c.n_generated_tokens(), 1);
  scheduler.check_integrity();
}

TEST(Scheduler, DecodesRunInEveryStepOfALongPrompt) {
  const auto limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a = make(1, prompt(4), 20);
  Sequence b = make(2, prompt(100, 200), 4);
  scheduler.add(a);
  scheduler.complete(model.run(scheduler.schedule()));
  scheduler.add(b);
  int n_steps = 0;
  while (b.n_generated_tokens() == 0) {
    const std::int32_t n_before = a.n_generated_tokens();
    scheduler.complete(model.run(scheduler.schedule()));
    EXPECT_EQ(a.n_generated_tokens(), n_before + 1);
    n_steps += 1;
  }
  EXPECT_EQ(n_steps, 4);  // 100 tokens in chunks of 31
}

TEST(Scheduler, PromptsAreCutShorterWhereSequencesGenerate) {
  auto limits = small_limits();
  limits.max_mixed_tokens = 10;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a = make(1, prompt(40), 20);
  Sequence b = make(2, prompt(40, 200), 4);
  scheduler.add(a);
  std::vector<std::int32_t> n_tokens;
  const auto step = [&] {
    const StepBatch& batch = scheduler.schedule();
    n_tokens.push_back(batch.n_tokens);
    scheduler.complete(model.run(batch));
  };
  step();
  step();
  scheduler.add(b);
  for (int i = 0; i < 6; ++i) step();
  // a alone; then with each of its tokens 9 of b's.
  EXPECT_THAT(n_tokens, ElementsAre(32, 8, 10, 10, 10, 10, 5, 2));
}

TEST(Scheduler, CountsThePromptsThatWait) {
  auto limits = small_limits();
  limits.max_sequences = 1;
  Scheduler scheduler(limits);
  Sequence a = make(1, prompt(9), 20);
  Sequence b = make(2, prompt(4, 50), 20);
  scheduler.add(a);
  scheduler.add(b);
  EXPECT_EQ(scheduler.n_waiting_tokens(), 13);
  EXPECT_EQ(scheduler.n_prompt_tokens(), 0);
  scheduler.schedule();
  EXPECT_EQ(scheduler.n_waiting_tokens(), 4);
  EXPECT_EQ(scheduler.n_prompt_tokens(), 9);
  scheduler.finish(b);
  EXPECT_EQ(scheduler.n_waiting_tokens(), 0);
}

TEST(Scheduler, RefusesWhatCouldNeverRun) {
  auto limits = small_limits();
  limits.n_kv_blocks = 4;  // 32 tokens
  Scheduler scheduler(limits);
  Sequence too_large = make(1, prompt(30), 4);  // 33 cached positions
  try {
    scheduler.add(too_large);
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("needs 5 KV blocks of 8 tokens; there are 4"));
    EXPECT_THAT(error.what(), HasSubstr("more memory"));
  }
  Sequence fits = make(2, prompt(30), 3);
  scheduler.add(fits);

  Sequence long_prompt = make(3, prompt(129), 0);
  try {
    scheduler.add(long_prompt);
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("the prompt has 129 tokens; expected at most 128"));
  }
  Sequence grows_long = make(4, prompt(120), 9);
  EXPECT_THROW(scheduler.add(grows_long), Error);
  EXPECT_EQ(scheduler.n_waiting(), 1);
}

TEST(Scheduler, RefusesImpossibleLimits) {
  auto limits = small_limits();
  limits.max_batch_tokens = 3;
  EXPECT_THROW(Scheduler{limits}, Error);
  limits = small_limits();
  limits.n_kv_blocks = 0;
  EXPECT_THROW(Scheduler{limits}, Error);
  limits = small_limits();
  limits.max_context_tokens = 0;
  EXPECT_THROW(Scheduler{limits}, Error);
  limits = small_limits();
  limits.max_logit_rows = 3;
  EXPECT_THROW(Scheduler{limits}, Error);
  for (const std::int64_t n_mixed : {-1, 3, 33}) {
    limits = small_limits();
    limits.max_mixed_tokens = n_mixed;
    EXPECT_THROW(Scheduler{limits}, Error);
  }
}

TEST(Scheduler, PreemptsTheNewestAndComputesItAgain) {
  auto limits = small_limits();
  limits.n_kv_blocks = 4;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  // b is admitted beside a (2 blocks, 1 for a's growth, 1 for b), and both grow until the pool is
  // empty.
  Sequence a = make(1, prompt(9), 20);
  Sequence b = make(2, prompt(4, 70), 20);
  scheduler.add(a);
  scheduler.add(b);
  int n_steps = 0;
  while (scheduler.has_work()) {
    ASSERT_LT(++n_steps, 100);
    scheduler.complete(model.run(scheduler.schedule()));
    scheduler.check_integrity();
    for (Sequence* sequence : {&a, &b})
      if (sequence->state() == SequenceState::running && sequence->is_exhausted())
        scheduler.finish(*sequence);
  }
  EXPECT_EQ(a.n_preemptions(), 0);
  EXPECT_EQ(b.n_preemptions(), 1);
  EXPECT_EQ(scheduler.n_preemptions(), 1);
  EXPECT_THAT(a.generated_ids(), testing::ElementsAreArray(generate_alone(prompt(9), 20)));
  EXPECT_THAT(b.generated_ids(), testing::ElementsAreArray(generate_alone(prompt(4, 70), 20)));
  EXPECT_EQ(scheduler.pool().n_free_blocks(), 4);
}

TEST(Scheduler, BlocksBehindTheWindowReturn) {
  Limits limits = small_limits();
  limits.window_tokens = 16;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence sequence = make(1, prompt(20), 100);
  scheduler.add(sequence);
  while (!sequence.is_exhausted()) {
    scheduler.complete(model.run(scheduler.schedule()));
    scheduler.check_integrity();
    // Of the 16 positions that are read next, the first and the last begin and end blocks of 8.
    EXPECT_LE(scheduler.pool().n_used_blocks(), 3) << sequence.n_cached_tokens();
  }
  EXPECT_EQ(sequence.n_returned_blocks(), (119 + 1 - 16) / 8);
  EXPECT_THAT(sequence.generated_ids(),
              testing::ElementsAreArray(generate_alone(prompt(20), 100, limits.window_tokens)));
  scheduler.finish(sequence);
  EXPECT_EQ(scheduler.pool().n_used_blocks(), 0);
}

TEST(Scheduler, ScoresEveryPositionOnce) {
  auto limits = small_limits();
  limits.max_logit_rows = 7;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence scored = make(1, prompt(20), 0, true);
  Sequence generated = make(2, prompt(3, 80), 2);
  scheduler.add(scored);
  scheduler.add(generated);
  std::vector<std::int32_t> scored_positions;
  while (scheduler.has_work()) {
    const StepBatch& batch = scheduler.schedule();
    ASSERT_LE(batch.n_logit_rows, 7);
    for (std::size_t row = 0; row < batch.logit_rows.size(); ++row) {
      const bool is_score = row >= std::size_t(batch.n_sample_rows);
      EXPECT_EQ(batch.row_sequences[row], is_score ? &scored : &generated);
      if (is_score) scored_positions.push_back(batch.positions[std::size_t(batch.logit_rows[row])]);
    }
    scheduler.complete(model.run(batch));
    for (Sequence* sequence : {&scored, &generated})
      if (sequence->state() == SequenceState::running && sequence->is_exhausted())
        scheduler.finish(*sequence);
  }
  EXPECT_THAT(scored_positions, testing::ElementsAreArray(prompt(20, 0)));
  EXPECT_THAT(generated.generated_ids(),
              testing::ElementsAreArray(generate_alone(prompt(3, 80), 2)));
}

TEST(Scheduler, ScoredPromptMayGenerateToo) {
  const auto limits = small_limits();
  Scheduler scheduler(limits);
  Sequence sequence = make(1, prompt(5), 1, true);
  scheduler.add(sequence);
  const StepBatch& batch = scheduler.schedule();
  EXPECT_EQ(batch.n_sample_rows, 1);
  EXPECT_THAT(batch.logit_rows, ElementsAre(4, 0, 1, 2, 3));
}

TEST(Scheduler, FinishTakesASequenceOutWhereverItIs) {
  auto limits = small_limits();
  limits.max_sequences = 1;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a = make(1, prompt(9), 20);
  Sequence b = make(2, prompt(4), 20);
  Sequence c = make(3, prompt(4), 1);
  for (Sequence* sequence : {&a, &b, &c}) scheduler.add(*sequence);
  scheduler.complete(model.run(scheduler.schedule()));
  scheduler.finish(b);  // waits
  scheduler.finish(a);  // runs
  EXPECT_EQ(scheduler.pool().n_used_blocks(), 0);
  EXPECT_THAT(batch_ids(scheduler.schedule()), ElementsAre(3));
}

TEST(Scheduler, IdleStepIsEmpty) {
  Scheduler scheduler(small_limits());
  EXPECT_FALSE(scheduler.has_work());
  EXPECT_EQ(scheduler.schedule().n_tokens, 0);
  EXPECT_EQ(scheduler.schedule().n_tokens, 0);
}

TEST(SchedulerDeathTest, AbortsOnMisuse) {
  Scheduler scheduler(small_limits());
  Sequence sequence = make(1, prompt(3), 3);
  EXPECT_DEATH(scheduler.finish(sequence), "is not scheduled here");
  scheduler.add(sequence);
  EXPECT_DEATH(scheduler.add(sequence), "added before");
  EXPECT_DEATH(scheduler.complete({}), "no step is in flight");
  scheduler.schedule();
  scheduler.schedule();
  EXPECT_DEATH(scheduler.schedule(), "2 steps are in flight");
  EXPECT_DEATH(scheduler.complete({}), "0 sampled ids for 1 rows");
  scheduler.complete(std::vector<std::int32_t>{5});
  scheduler.complete(std::vector<std::int32_t>{6});
  scheduler.schedule();
  scheduler.complete(std::vector<std::int32_t>{7});
  EXPECT_DEATH(scheduler.schedule(), "finish\\(\\) it");
}

TEST(Scheduler, SteadyStateDoesNotMoveItsArrays) {
  auto limits = small_limits();
  limits.max_sequences = 8;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  std::deque<Sequence> sequences;
  for (std::uint64_t i = 0; i < 8; ++i)
    scheduler.add(sequences.emplace_back(make(i, prompt(20 + i, 100 * std::int32_t(i)), 20)));
  const auto addresses = [&](const StepBatch& batch) {
    return std::vector<const void*>{
        batch.token_ids.data(),    batch.positions.data(),    batch.slot_mapping.data(),
        batch.cu_seqlens.data(),   batch.context_lens.data(), batch.block_tables.data(),
        batch.logit_rows.data(),   batch.sequences.data(),    batch.row_sequences.data(),
        sequences[0].ids().data(), sequences[7].ids().data()};
  };
  std::deque<std::vector<const void*>> before;
  for (int step = 0; step < 18; ++step) {
    const StepBatch& batch = scheduler.schedule();
    before.push_back(addresses(batch));
    scheduler.complete(model.run(batch));
    if (step < 2) continue;
    EXPECT_EQ(before.front(), before.back()) << "two batches take turns";
    before.pop_front();
  }
}

TEST(StepBatch, IsUnevenWhereOneOfManyHasFarMoreContextThanTheRestOrOneOfFewIsLong) {
  const auto is_uneven = [](std::vector<std::int32_t> contexts, std::int32_t n_prompts = 0) {
    StepBatch batch;
    batch.n_decodes = std::int32_t(contexts.size());
    // The contexts of prompts come after.
    contexts.insert(contexts.end(), std::size_t(n_prompts), 100'000);
    batch.n_sequences = std::int32_t(contexts.size());
    batch.context_lens = std::move(contexts);
    return batch.is_uneven();
  };
  std::vector<std::int32_t> contexts(16, 100);
  EXPECT_FALSE(is_uneven(contexts));
  EXPECT_FALSE(is_uneven(contexts, /*n_prompts=*/3));
  contexts[7] = 2048;  // not long
  EXPECT_FALSE(is_uneven(contexts));
  contexts[7] = 2049;
  EXPECT_TRUE(is_uneven(contexts));
  EXPECT_FALSE(is_uneven(std::vector<std::int32_t>(16, 100'000)));
  EXPECT_TRUE(is_uneven(std::vector<std::int32_t>(8, 1537)));  // few
  EXPECT_FALSE(is_uneven(std::vector<std::int32_t>(8, 1536)));
  EXPECT_TRUE(is_uneven({1537}));
  EXPECT_FALSE(is_uneven({1}, /*n_prompts=*/3));
  EXPECT_TRUE(is_uneven({100'000, 1, 1, 1, 1, 1, 1, 1, 1}));
  // Four times the mean of all.
  contexts.assign(12, 3000);
  contexts[0] = 16'499;
  EXPECT_FALSE(is_uneven(contexts));
  contexts[0] = 16'501;
  EXPECT_TRUE(is_uneven(contexts));
  EXPECT_FALSE(is_uneven({}));
}

}  // namespace
}  // namespace nereid::sched
