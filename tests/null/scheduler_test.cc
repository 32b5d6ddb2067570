// The scheduler against a model that cannot be fooled: it keeps a paged cache of what was written
// where, reads each context back through the block tables, and samples from all it read. Whatever
// the batching, chunking and preemptions, a sequence must generate what it generates alone.
#include "sched/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "base/error.h"

namespace nereid::sched {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::int32_t next_token(std::span<const std::int32_t> context) {
  std::uint32_t hash = 2166136261u;
  for (const std::int32_t id : context) hash = (hash ^ std::uint32_t(id)) * 16777619u;
  return std::int32_t(hash >> 8) % 1000;
}

std::vector<std::int32_t> generate_alone(std::vector<std::int32_t> ids, std::size_t n_new) {
  const std::size_t n_prompt = ids.size();
  while (ids.size() < n_prompt + n_new) ids.push_back(next_token(ids));
  return {ids.begin() + std::ptrdiff_t(n_prompt), ids.end()};
}

class CacheModel {
 public:
  explicit CacheModel(const Limits& limits)
      : limits_(limits), slots_(std::size_t(limits.n_kv_blocks * limits.block_tokens)) {}

  // Writes the batch's tokens, then reads every context back. Returns the sampled ids.
  std::vector<std::int32_t> run(const StepBatch& batch) {
    check_form(batch);
    for (std::int32_t t = 0; t < batch.n_tokens; ++t)
      slots_.at(std::size_t(batch.slot_mapping[std::size_t(t)])) = {
          batch.token_ids[std::size_t(t)], batch.positions[std::size_t(t)]};
    std::map<std::int32_t, std::int32_t> id_after_row;
    for (std::int32_t s = 0; s < batch.n_sequences; ++s) {
      std::vector<std::int32_t> context;
      const Sequence& sequence = *batch.sequences[std::size_t(s)];
      const std::int32_t context_len = batch.context_lens[std::size_t(s)];
      for (std::int32_t position = 0; position < context_len; ++position) {
        const std::int32_t block = batch.block_tables[std::size_t(s * batch.block_table_stride +
                                                                  position / limits_.block_tokens)];
        const Slot& slot =
            slots_[std::size_t(block * limits_.block_tokens + position % limits_.block_tokens)];
        EXPECT_EQ(slot.position, position);
        EXPECT_EQ(slot.id, sequence.ids()[std::size_t(position)]);
        context.push_back(slot.id);
      }
      const std::int32_t end = batch.cu_seqlens[std::size_t(s) + 1];
      const std::int32_t begin = batch.cu_seqlens[std::size_t(s)];
      EXPECT_EQ(batch.positions[std::size_t(begin)], sequence.n_cached_tokens());
      for (std::int32_t t = begin; t < end; ++t) {
        EXPECT_EQ(batch.positions[std::size_t(t)], context_len - (end - t));
        id_after_row[t] =
            next_token(std::span(context).first(std::size_t(context_len - (end - t) + 1)));
      }
    }
    std::vector<std::int32_t> sampled;
    for (std::int32_t row = 0; row < batch.n_sample_rows; ++row)
      sampled.push_back(id_after_row.at(batch.logit_rows[std::size_t(row)]));
    return sampled;
  }

 private:
  struct Slot {
    std::int32_t id = -1;
    std::int32_t position = -1;
  };

  void check_form(const StepBatch& batch) const {
    const auto n_tokens = std::size_t(batch.n_tokens);
    const auto n_sequences = std::size_t(batch.n_sequences);
    ASSERT_LE(batch.n_tokens, limits_.max_batch_tokens);
    ASSERT_LE(batch.n_sequences, limits_.max_sequences);
    ASSERT_EQ(batch.token_ids.size(), n_tokens);
    ASSERT_EQ(batch.positions.size(), n_tokens);
    ASSERT_EQ(batch.slot_mapping.size(), n_tokens);
    ASSERT_EQ(batch.cu_seqlens.size(), n_sequences + 1);
    ASSERT_EQ(batch.cu_seqlens.back(), batch.n_tokens);
    ASSERT_EQ(batch.context_lens.size(), n_sequences);
    ASSERT_EQ(batch.sequences.size(), n_sequences);
    ASSERT_EQ(batch.logit_rows.size(), std::size_t(batch.n_logit_rows));
    ASSERT_EQ(batch.row_sequences.size(), std::size_t(batch.n_logit_rows));
    ASSERT_LE(batch.n_sample_rows, batch.n_logit_rows);
    const std::set<std::int32_t> slots(batch.slot_mapping.begin(), batch.slot_mapping.end());
    ASSERT_EQ(slots.size(), n_tokens) << "two tokens write one slot";
    const std::set<std::int32_t> rows(batch.logit_rows.begin(), batch.logit_rows.end());
    ASSERT_EQ(rows.size(), std::size_t(batch.n_logit_rows)) << "a row of logits twice";
    std::int32_t max_q_len = 0;
    for (std::size_t s = 0; s < n_sequences; ++s) {
      const std::int32_t q_len = batch.cu_seqlens[s + 1] - batch.cu_seqlens[s];
      ASSERT_GE(q_len, 1);
      if (std::int32_t(s) < batch.n_decodes) {
        ASSERT_EQ(q_len, 1);
        ASSERT_GT(batch.sequences[s]->n_generated_tokens(), 0);
      }
      max_q_len = std::max(max_q_len, q_len);
      const auto table = batch.sequences[s]->block_table();
      for (std::int32_t i = 0; i < batch.block_table_stride; ++i)
        ASSERT_EQ(batch.block_tables[s * std::size_t(batch.block_table_stride) + std::size_t(i)],
                  std::size_t(i) < table.size() ? table[std::size_t(i)] : 0);
    }
    ASSERT_EQ(batch.max_q_len, max_q_len);
  }

  Limits limits_;
  std::vector<Slot> slots_;
};

Limits small_limits() {
  return {.max_batch_tokens = 32,
          .max_sequences = 4,
          .max_logit_rows = 32,
          .block_tokens = 8,
          .n_kv_blocks = 64,
          .max_context_tokens = 128};
}

std::vector<std::int32_t> prompt(std::size_t n, std::int32_t first = 1) {
  std::vector<std::int32_t> ids(n);
  for (std::size_t i = 0; i < n; ++i) ids[i] = first + std::int32_t(i);
  return ids;
}

std::vector<std::uint64_t> batch_ids(const StepBatch& batch) {
  std::vector<std::uint64_t> ids;
  for (const Sequence* sequence : batch.sequences) ids.push_back(sequence->id());
  return ids;
}

TEST(Scheduler, SeveralPromptsShareOneStepInOrder) {
  const auto limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a(1, prompt(10), 4), b(2, prompt(5, 50), 4), c(3, prompt(40, 90), 4);
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

  scheduler.schedule();
  EXPECT_EQ(batch.n_decodes, 2);
  EXPECT_THAT(batch_ids(batch), ElementsAre(1, 2, 3));
  EXPECT_THAT(batch.cu_seqlens, ElementsAre(0, 1, 2, 25));
  EXPECT_THAT(batch.positions[0], 10);
  EXPECT_THAT(batch.positions[2], 17);
  EXPECT_THAT(batch.logit_rows, ElementsAre(0, 1, 24));
  scheduler.complete(model.run(batch));
  EXPECT_EQ(c.n_generated_tokens(), 1);
  scheduler.check_integrity();
}

TEST(Scheduler, DecodesRunInEveryStepOfALongPrompt) {
  const auto limits = small_limits();
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence a(1, prompt(4), 20), b(2, prompt(100, 200), 4);
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

TEST(Scheduler, RefusesWhatCouldNeverRun) {
  auto limits = small_limits();
  limits.n_kv_blocks = 4;  // 32 tokens
  Scheduler scheduler(limits);
  Sequence too_large(1, prompt(30), 4);  // 33 cached positions
  try {
    scheduler.add(too_large);
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("needs 5 KV blocks of 8 tokens; there are 4"));
    EXPECT_THAT(error.what(), HasSubstr("more memory"));
  }
  Sequence fits(2, prompt(30), 3);
  scheduler.add(fits);

  Sequence long_prompt(3, prompt(129), 0);
  try {
    scheduler.add(long_prompt);
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("the prompt has 129 tokens; expected at most 128"));
  }
  Sequence grows_long(4, prompt(120), 9);
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
}

TEST(Scheduler, PreemptsTheNewestAndComputesItAgain) {
  auto limits = small_limits();
  limits.n_kv_blocks = 4;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  // b is admitted beside a (2 blocks, 1 for a's growth, 1 for b), and both grow until the pool is
  // empty.
  Sequence a(1, prompt(9), 20), b(2, prompt(4, 70), 20);
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

TEST(Scheduler, ScoresEveryPositionOnce) {
  auto limits = small_limits();
  limits.max_logit_rows = 7;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  Sequence scored(1, prompt(20), 0, true), generated(2, prompt(3, 80), 2);
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
  Sequence sequence(1, prompt(5), 1, true);
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
  Sequence a(1, prompt(9), 20), b(2, prompt(4), 20), c(3, prompt(4), 1);
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
  Sequence sequence(1, prompt(3), 1);
  scheduler.add(sequence);
  EXPECT_DEATH(scheduler.add(sequence), "added before");
  scheduler.schedule();
  EXPECT_DEATH(scheduler.schedule(), "in flight");
  EXPECT_DEATH(scheduler.finish(sequence), "in flight");
  EXPECT_DEATH(scheduler.complete({}), "0 sampled ids for 1 rows");
  scheduler.complete(std::vector<std::int32_t>{5});
  EXPECT_DEATH(scheduler.schedule(), "finish\\(\\) it");
}

TEST(Scheduler, SteadyStateDoesNotMoveItsArrays) {
  auto limits = small_limits();
  limits.max_sequences = 8;
  Scheduler scheduler(limits);
  CacheModel model(limits);
  std::deque<Sequence> sequences;
  for (std::uint64_t i = 0; i < 8; ++i)
    scheduler.add(sequences.emplace_back(i, prompt(20 + i), 20));
  const StepBatch& batch = scheduler.schedule();
  const auto addresses = [&] {
    return std::vector<const void*>{
        batch.token_ids.data(),    batch.positions.data(),    batch.slot_mapping.data(),
        batch.cu_seqlens.data(),   batch.context_lens.data(), batch.block_tables.data(),
        batch.logit_rows.data(),   batch.sequences.data(),    batch.row_sequences.data(),
        sequences[0].ids().data(), sequences[7].ids().data()};
  };
  const auto before = addresses();
  scheduler.complete(model.run(batch));
  for (int step = 0; step < 15; ++step) scheduler.complete(model.run(scheduler.schedule()));
  EXPECT_EQ(addresses(), before);
}

// Random arrivals, lengths, early ends and pools too small for all: everyone finishes with what it
// generates alone.
void simulate(std::uint32_t seed, std::int64_t& n_preemptions) {
  std::mt19937 random(seed);
  const auto pick = [&](std::int32_t low, std::int32_t high) {
    return low + std::int32_t(random() % std::uint32_t(high - low + 1));
  };
  Limits limits;
  limits.block_tokens = pick(1, 16);
  limits.max_sequences = pick(1, 9);
  limits.max_batch_tokens = limits.max_sequences + pick(0, 40);
  limits.max_logit_rows = pick(0, 1) ? limits.max_batch_tokens : limits.max_sequences + pick(0, 8);
  limits.max_context_tokens = 90;
  const std::int32_t n_all_fit = (90 + limits.block_tokens - 1) / limits.block_tokens;
  limits.n_kv_blocks = n_all_fit + pick(0, n_all_fit);
  Scheduler scheduler(limits);
  CacheModel model(limits);

  struct Client {
    std::unique_ptr<Sequence> sequence;
    std::vector<std::int32_t> expected;
    std::int32_t stop_after;
    std::int32_t arrival_step;
  };
  std::vector<Client> clients;
  for (std::uint64_t i = 0; i < 30; ++i) {
    const std::int32_t n_prompt = pick(1, pick(0, 3) == 0 ? 70 : 12);
    const std::int32_t n_new = pick(0, 90 - n_prompt);
    const auto ids = prompt(std::size_t(n_prompt), pick(0, 1000));
    clients.push_back({std::make_unique<Sequence>(i, ids, n_new, n_new == 0 || pick(0, 9) == 0),
                       generate_alone(ids, std::size_t(n_new)), pick(0, 2) ? n_new : pick(0, n_new),
                       pick(0, 200)});
  }

  std::size_t n_finished = 0;
  for (int step = 0; n_finished < clients.size(); ++step) {
    ASSERT_LT(step, 20000) << "livelock";
    for (Client& client : clients)
      if (client.arrival_step == step) scheduler.add(*client.sequence);
    std::map<const Sequence*, std::int32_t> n_before;
    for (const Client& client : clients)
      n_before[client.sequence.get()] = client.sequence->n_generated_tokens();
    const bool had_work = scheduler.has_work();
    const StepBatch& batch = scheduler.schedule();
    scheduler.check_integrity();
    ASSERT_EQ(batch.n_tokens > 0, had_work);
    if (!had_work) continue;
    const auto sampled = model.run(batch);
    if (testing::Test::HasFailure()) return;
    scheduler.complete(sampled);
    scheduler.check_integrity();
    for (Client& client : clients) {
      Sequence& sequence = *client.sequence;
      if (sequence.state() != SequenceState::running) continue;
      // Whoever generates and runs has one token more after every step, prompts or not.
      if (n_before[&sequence] > 0 && sequence.n_cached_tokens() == sequence.n_tokens() - 1 &&
          sequence.n_preemptions() == 0) {
        ASSERT_EQ(sequence.n_generated_tokens(), n_before[&sequence] + 1);
      }
      const bool is_stopped =
          sequence.n_generated_tokens() > 0 && sequence.n_generated_tokens() >= client.stop_after;
      if (!sequence.is_exhausted() && !is_stopped) continue;
      scheduler.finish(sequence);
      n_finished += 1;
      ASSERT_THAT(
          sequence.generated_ids(),
          testing::ElementsAreArray(
              std::span(client.expected).first(std::size_t(sequence.n_generated_tokens()))));
    }
  }
  EXPECT_FALSE(scheduler.has_work());
  EXPECT_EQ(scheduler.pool().n_used_blocks(), 0);
  n_preemptions += scheduler.n_preemptions();
}

TEST(Scheduler, SimulationsEndWithEveryonesOwnTokens) {
  std::int64_t n_preemptions = 0;
  for (std::uint32_t seed = 0; seed < 60 && !HasFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    simulate(seed, n_preemptions);
  }
  RecordProperty("preemptions", std::to_string(n_preemptions));
  EXPECT_GT(n_preemptions, 50);  // else the pools are too large to test anything
}

}  // namespace
}  // namespace nereid::sched
