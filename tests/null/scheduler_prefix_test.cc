// Prompts that start alike: computed once, under the same salt, and nobody waits forever for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <initializer_list>
#include <string>
#include <vector>

#include "null/cache_model.h"
#include "sched/scheduler.h"

namespace nereid::sched {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using Ids = std::vector<std::int32_t>;

Ids joined(Ids ids, const Ids& more) {
  ids.insert(ids.end(), more.begin(), more.end());
  return ids;
}

// Everyone may read from everyone.
void let_share(CacheModel& model, std::uint64_t n_sequences) {
  for (std::uint64_t reader = 0; reader < n_sequences; ++reader)
    for (std::uint64_t writer = 0; writer < n_sequences; ++writer)
      model.shares_with.insert({reader, writer});
}

void step(Scheduler& scheduler, CacheModel& model) {
  scheduler.complete(model.run(scheduler.schedule()));
  scheduler.check_integrity();
}

void finish_exhausted(Scheduler& scheduler, std::deque<Sequence>& sequences) {
  for (Sequence& sequence : sequences)
    if (sequence.state() == SequenceState::running && sequence.is_exhausted())
      scheduler.finish(sequence);
}

// With `n_ahead` 1, the next step is made before the last is completed.
void run_all(Scheduler& scheduler, CacheModel& model, std::deque<Sequence>& sequences,
             int n_ahead) {
  std::deque<Ids> results;
  while (scheduler.has_work()) {
    const StepBatch& batch = scheduler.schedule();
    if (batch.n_tokens > 0) results.push_back(model.run(batch));
    if (batch.n_tokens > 0 && std::ssize(results) <= n_ahead) continue;
    ASSERT_FALSE(results.empty());
    scheduler.complete(results.front());
    results.pop_front();
    finish_exhausted(scheduler, sequences);
    scheduler.check_integrity();
    if (testing::Test::HasFailure()) return;
  }
}

TEST(SchedulerPrefix, TheSecondOfTwoComputesOnlyTheRest) {
  Limits limits = small_limits();
  limits.max_batch_tokens = 512;
  limits.block_tokens = 64;
  limits.max_context_tokens = 2048;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  let_share(model, 2);
  std::deque<Sequence> sequences;
  const Ids first = joined(prompt(1024), {7, 8, 9});
  const Ids second = joined(prompt(1024), {4, 5, 6, 7, 8});
  scheduler.add(sequences.emplace_back(make(0, first, 3)));
  run_all(scheduler, model, sequences, 0);
  EXPECT_EQ(model.n_computed_tokens, 1027 + 2);
  scheduler.add(sequences.emplace_back(make(1, second, 3)));
  run_all(scheduler, model, sequences, 0);
  EXPECT_EQ(model.n_computed_tokens, 1027 + 2 + 5 + 2);
  EXPECT_EQ(sequences[0].n_prefix_tokens(), 0);
  EXPECT_EQ(sequences[1].n_prefix_tokens(), 1024);
  EXPECT_EQ(scheduler.n_prompt_tokens(), 1027 + 1029);
  EXPECT_EQ(scheduler.n_prefix_hit_tokens(), 1024);
  EXPECT_THAT(sequences[0].generated_ids(), ElementsAreArray(generate_alone(first, 3)));
  EXPECT_THAT(sequences[1].generated_ids(), ElementsAreArray(generate_alone(second, 3)));
}

TEST(SchedulerPrefix, TheNextTurnOfAChatFindsTheAnswerToo) {
  const Limits limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  let_share(model, 2);
  std::deque<Sequence> sequences;
  scheduler.add(sequences.emplace_back(make(0, prompt(12), 13)));  // 24 cached
  run_all(scheduler, model, sequences, 1);
  const Ids turn = joined(prompt(12), generate_alone(prompt(12), 13));
  scheduler.add(sequences.emplace_back(make(1, joined(turn, {1, 2}), 1)));
  run_all(scheduler, model, sequences, 1);
  EXPECT_EQ(sequences[1].n_prefix_tokens(), 24);
}

TEST(SchedulerPrefix, OneTokenOfAPromptIsAlwaysComputed) {
  const Limits limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  let_share(model, 2);
  std::deque<Sequence> sequences;
  for (std::uint64_t id = 0; id < 2; ++id) {
    scheduler.add(sequences.emplace_back(make(id, prompt(16), 1)));
    run_all(scheduler, model, sequences, 0);
  }
  EXPECT_EQ(sequences[1].n_prefix_tokens(), 8);
  EXPECT_THAT(sequences[1].generated_ids(), ElementsAreArray(generate_alone(prompt(16), 1)));
}

TEST(SchedulerPrefix, NothingIsSharedAcrossSaltsNorWithWhoDoesNotWantIt) {
  const Limits limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  std::deque<Sequence> sequences;
  std::uint64_t id = 0;
  const auto add = [&](const std::string& salt, bool uses_prefix_cache, bool want_all_logits) {
    scheduler.add(sequences.emplace_back(SequenceOptions{.id = id++,
                                                         .prompt_ids = prompt(20),
                                                         .max_new_tokens = 2,
                                                         .want_all_logits = want_all_logits,
                                                         .cache_salt = salt,
                                                         .uses_prefix_cache = uses_prefix_cache}));
    run_all(scheduler, model, sequences, 0);
    return sequences.back().n_prefix_tokens();
  };
  EXPECT_EQ(add("", false, false), 0);
  EXPECT_EQ(add("", true, false), 0) << "the one before left nothing";
  EXPECT_EQ(add("a", true, false), 0);
  EXPECT_EQ(add("b", true, true), 0);
  EXPECT_EQ(add("a", true, true), 0) << "each position's logits are wanted";
  EXPECT_EQ(add("a", false, false), 0);
  model.shares_with = {{6, 3}, {7, 1}, {8, 2}};
  EXPECT_EQ(add("b", true, false), 16);
  EXPECT_EQ(add("", true, false), 16);
  EXPECT_EQ(add("a", true, false), 16);
}

TEST(SchedulerPrefix, CanBeTurnedOff) {
  Limits limits = small_limits();
  limits.prefix_caching = false;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  std::deque<Sequence> sequences;
  for (std::uint64_t id = 0; id < 3; ++id)
    scheduler.add(sequences.emplace_back(make(id, prompt(20), 3)));
  step(scheduler, model);
  EXPECT_EQ(scheduler.n_running(), 2) << "32 tokens: the second is not kept waiting";
  run_all(scheduler, model, sequences, 1);
  EXPECT_EQ(scheduler.n_prefix_hit_tokens(), 0);
}

TEST(SchedulerPrefix, APreemptedSequenceFindsWhatIsLeftOfItself) {
  Limits limits = small_limits();
  limits.n_kv_blocks = 6;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  std::deque<Sequence> sequences;
  scheduler.add(sequences.emplace_back(make(0, prompt(9), 12)));
  scheduler.add(sequences.emplace_back(make(1, prompt(17, 50), 30)));
  scheduler.add(sequences.emplace_back(make(2, prompt(3, 90), 4)));
  run_all(scheduler, model, sequences, 1);
  ASSERT_GT(sequences[1].n_preemptions(), 0);
  // Less than everyone's tokens, once more what was preempted.
  EXPECT_LT(model.n_computed_tokens, 20 + 46 + 6 + 24);
  EXPECT_EQ(sequences[1].n_prefix_tokens(), 0) << "counts what others had computed";
  EXPECT_EQ(scheduler.n_prefix_hit_tokens(), 0);
  for (Sequence& sequence : sequences) {
    const auto ids = sequence.prompt_ids();
    EXPECT_THAT(sequence.generated_ids(),
                ElementsAreArray(generate_alone({ids.begin(), ids.end()},
                                                std::size_t(sequence.n_generated_tokens()))));
  }
}

TEST(SchedulerPrefix, SeveralAnswersComputeTheirPromptOnce) {
  for (const int n_ahead : {0, 1}) {
    Limits limits = small_limits();
    limits.max_batch_tokens = 40;
    Scheduler scheduler(limits);
    CacheModel model(limits);
    let_share(model, 4);
    std::deque<Sequence> sequences;
    for (std::uint64_t id = 0; id < 4; ++id)
      scheduler.add(sequences.emplace_back(make(id, prompt(52), 3)));
    run_all(scheduler, model, sequences, n_ahead);
    // 48 of the 52 are shared; each feeds back two tokens.
    EXPECT_EQ(model.n_computed_tokens, 52 + 3 * 4 + 4 * 2);
    for (const Sequence& sequence : sequences)
      EXPECT_THAT(sequence.generated_ids(), ElementsAreArray(generate_alone(prompt(52), 3)));
  }
}

TEST(SchedulerPrefix, WhoWaitsForAPrefixIsPassed) {
  const Limits limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  let_share(model, 4);
  std::deque<Sequence> sequences;
  scheduler.add(sequences.emplace_back(make(0, prompt(20), 9)));
  scheduler.add(sequences.emplace_back(make(1, prompt(20), 9)));
  scheduler.add(sequences.emplace_back(make(2, prompt(5, 60), 9)));
  scheduler.add(sequences.emplace_back(make(3, prompt(20, 80), 9)));
  const StepBatch& first = scheduler.schedule();
  EXPECT_THAT(batch_ids(first), ElementsAre(0, 2, 3));
  EXPECT_THAT(first.cu_seqlens, ElementsAre(0, 20, 25, 32));
  scheduler.complete(model.run(first));
  const StepBatch& second = scheduler.schedule();
  EXPECT_THAT(batch_ids(second), ElementsAre(0, 2, 3, 1));
  EXPECT_EQ(second.n_decodes, 2);
  scheduler.complete(model.run(second));
  scheduler.check_integrity();
  // It runs where it came: only those that came later are preempted before it.
  EXPECT_THAT(batch_ids(scheduler.schedule()), ElementsAre(0, 1, 2, 3));
}

TEST(SchedulerPrefix, WhoWaitsGoesOnWhereTheOtherLeaves) {
  const Limits limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  let_share(model, 3);
  std::deque<Sequence> sequences;
  scheduler.add(sequences.emplace_back(make(0, prompt(60), 9)));
  scheduler.add(sequences.emplace_back(make(1, prompt(60), 9)));
  scheduler.add(sequences.emplace_back(make(2, prompt(60, 500), 9)));
  step(scheduler, model);
  const StepBatch& second = scheduler.schedule();
  EXPECT_THAT(batch_ids(second), ElementsAre(0, 2));
  model.spoil(second.slot_mapping);
  scheduler.fail();
  scheduler.finish(sequences[0]);
  // The other that runs has nothing in common with it, and its prompt is cut to what is left.
  const StepBatch& third = scheduler.schedule();
  EXPECT_THAT(batch_ids(third), ElementsAre(2));
  scheduler.complete(model.run(third));
  const StepBatch& fourth = scheduler.schedule();
  EXPECT_THAT(batch_ids(fourth), ElementsAre(2, 1));
  EXPECT_EQ(sequences[1].n_prefix_tokens(), 32) << "what the first completed";
}

// A stream of requests that all start as the one that waits: it runs as soon as the first has
// computed the start, before all who came later.
TEST(SchedulerPrefix, WhoWaitsForAPrefixIsNotStarved) {
  for (const bool is_failing : {false, true}) {
    const Limits limits = small_limits();
    Scheduler scheduler(limits);
    CacheModel model(limits);
    let_share(model, 200);
    std::deque<Sequence> sequences;
    scheduler.add(sequences.emplace_back(make(0, prompt(100), 2)));
    scheduler.add(sequences.emplace_back(make(1, joined(prompt(90), {5, 5, 5}), 2)));
    int n_steps = 0;
    for (std::uint64_t id = 2; sequences[1].state() == SequenceState::waiting; ++id, ++n_steps) {
      ASSERT_LT(n_steps, 8);
      // Shorter starts of the same, the same, and others: each would run if it were alone.
      const auto n_same = std::size_t(11 * (id % 9));
      scheduler.add(sequences.emplace_back(
          make(id, joined(prompt(n_same), prompt(3, std::int32_t(1000 + 10 * id))), 2)));
      step(scheduler, model);
      if (is_failing && n_steps % 2 == 1) {
        model.spoil(scheduler.schedule().slot_mapping);
        scheduler.fail();
      }
      finish_exhausted(scheduler, sequences);
    }
    run_all(scheduler, model, sequences, 0);
    EXPECT_EQ(sequences[1].n_prefix_tokens(), 88);
    EXPECT_THAT(sequences[1].generated_ids(),
                ElementsAreArray(generate_alone(joined(prompt(90), {5, 5, 5}), 2)));
  }
}

}  // namespace
}  // namespace nereid::sched
