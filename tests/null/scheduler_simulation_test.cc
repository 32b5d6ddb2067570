// Random arrivals, lengths, common starts, salts, early ends, cancellations and failed steps, with
// pools too small for all and a step ahead or none: everyone finishes with what it generates alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "null/cache_model.h"
#include "sched/scheduler.h"

namespace nereid::sched {
namespace {

struct Totals {
  std::int64_t n_preemptions = 0;
  std::int64_t n_prefix_hit_tokens = 0;
  std::int64_t n_short_of_blocks = 0;
  std::int64_t n_cancelled_in_flight = 0;
  std::int64_t n_failures = 0;
  std::int64_t n_ahead = 0;
  std::int64_t n_returned_blocks = 0;
};

class Simulation {
 public:
  Simulation(std::uint32_t seed, bool is_ahead, Totals& totals)
      : random_(seed),
        is_ahead_(is_ahead),
        totals_(totals),
        limits_(draw_limits()),
        scheduler_(limits_),
        model_(limits_) {
    for (std::uint64_t id = 0; id < kClients; ++id) clients_.push_back(draw_client(id));
    for (const Client& reader : clients_)
      for (const Client& writer : clients_)
        if (reader.uses_prefix_cache && writer.uses_prefix_cache && reader.salt == writer.salt)
          model_.shares_with.insert({reader.sequence->id(), writer.sequence->id()});
  }

  void run() {
    for (int round = 0; n_finished_ < kClients; ++round) {
      ASSERT_LT(round, 20000) << "livelock";
      for (Client& client : clients_)
        if (client.arrival_round == round) scheduler_.add(*client.sequence);
      if (pick(0, 9) == 0) cancel(clients_[std::size_t(pick(0, kClients - 1))]);
      if (pick(0, 19) == 0) fail();
      // A step ahead, sometimes: then the choice is free.
      if (flights_.empty() || (is_ahead_ && flights_.size() == 1 && pick(0, 4) > 0))
        schedule();
      else
        complete();
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_FALSE(scheduler_.has_work());
    EXPECT_EQ(scheduler_.pool().n_used_blocks(), 0);
    EXPECT_EQ(scheduler_.n_waiting_tokens(), 0);
    for (const Client& client : clients_)
      EXPECT_THAT(client.sequence->generated_ids(), testing::ElementsAreArray(client.expected))
          << "sequence " << client.sequence->id() << " changed after its end";
    totals_.n_preemptions += scheduler_.n_preemptions();
    totals_.n_prefix_hit_tokens += scheduler_.n_prefix_hit_tokens();
  }

 private:
  static constexpr std::int32_t kClients = 30;
  static constexpr std::int32_t kContext = 90;

  struct Client {
    std::unique_ptr<Sequence> sequence;
    std::vector<std::int32_t> expected;
    std::int32_t stop_after;
    std::int32_t arrival_round;
    std::string salt;
    bool uses_prefix_cache;
  };
  struct Flight {
    std::vector<std::int32_t> ids;
    std::vector<std::int32_t> slot_mapping;
  };

  std::int32_t pick(std::int32_t low, std::int32_t high) {
    return low + std::int32_t(random_() % std::uint32_t(high - low + 1));
  }

  Limits draw_limits() {
    Limits limits;
    limits.block_tokens = pick(1, 16);
    limits.max_sequences = pick(1, 9);
    limits.caches_answers = pick(0, 1) == 1;
    limits.max_mixed_tokens = limits.max_sequences + pick(0, 20);
    limits.max_batch_tokens = limits.max_mixed_tokens + pick(0, 20);
    limits.max_logit_rows =
        pick(0, 1) ? limits.max_batch_tokens : limits.max_sequences + pick(0, 8);
    limits.max_context_tokens = kContext;
    const auto n_all_fit = std::int32_t((kContext + limits.block_tokens - 1) / limits.block_tokens);
    limits.n_kv_blocks = n_all_fit + pick(0, n_all_fit);
    limits.prefix_caching = pick(0, 4) > 0;
    limits.window_tokens = pick(0, 1) ? pick(1, kContext) : 0;
    return limits;
  }

  Client draw_client(std::uint64_t id) {
    const std::int32_t n_prompt = pick(1, pick(0, 2) == 0 ? 70 : 12);
    const std::int32_t n_new = pick(0, kContext - n_prompt);
    // Few starts: most have one in common; their ends differ, if they are drawn to.
    auto ids = prompt(std::size_t(n_prompt), 500 * pick(0, 2));
    for (std::int32_t i = n_prompt - pick(0, n_prompt); i < n_prompt; ++i)
      ids[std::size_t(i)] += pick(0, 3) ? 0 : 1;
    const std::string salt = pick(0, 3) == 0 ? "salt" : "";
    const bool uses_prefix_cache = pick(0, 7) > 0;
    return {.sequence = std::make_unique<Sequence>(
                SequenceOptions{.id = id,
                                .prompt_ids = ids,
                                .max_new_tokens = n_new,
                                .want_all_logits = n_new == 0 || pick(0, 9) == 0,
                                .cache_salt = salt,
                                .uses_prefix_cache = uses_prefix_cache}),
            .expected = generate_alone(ids, std::size_t(n_new), limits_.window_tokens),
            .stop_after = pick(0, 2) ? n_new : pick(0, n_new),
            .arrival_round = pick(0, 200),
            .salt = salt,
            .uses_prefix_cache = uses_prefix_cache};
  }

  void schedule() {
    const bool had_work = scheduler_.has_work();
    const std::int32_t n_in_flight = scheduler_.n_steps_in_flight();
    const std::int64_t n_preemptions = scheduler_.n_preemptions();
    const StepBatch& batch = scheduler_.schedule();
    scheduler_.check_integrity();
    if (n_in_flight == 0) {
      ASSERT_EQ(batch.n_tokens > 0, had_work);
    } else {
      ASSERT_EQ(scheduler_.n_preemptions(), n_preemptions);
    }
    if (batch.is_short_of_blocks) {
      ASSERT_EQ(batch.n_tokens, 0);
      ASSERT_EQ(n_in_flight, 1);
      totals_.n_short_of_blocks += 1;
    }
    if (batch.n_tokens == 0) {
      if (n_in_flight > 0) complete();
      return;
    }
    totals_.n_ahead += n_in_flight;
    flights_.push_back({model_.run(batch), batch.slot_mapping});
  }

  void complete() {
    scheduler_.complete(flights_.front().ids);
    flights_.pop_front();
    scheduler_.check_integrity();
    for (Client& client : clients_) {
      Sequence& sequence = *client.sequence;
      if (sequence.state() != SequenceState::running) continue;
      const bool is_stopped =
          sequence.n_generated_tokens() > 0 && sequence.n_generated_tokens() >= client.stop_after;
      if (sequence.is_exhausted() || is_stopped) finish(client);
    }
  }

  void cancel(Client& client) {
    const SequenceState state = client.sequence->state();
    if (state != SequenceState::waiting && state != SequenceState::running) return;
    totals_.n_cancelled_in_flight += state == SequenceState::running && !flights_.empty();
    finish(client);
  }

  void finish(Client& client) {
    Sequence& sequence = *client.sequence;
    totals_.n_returned_blocks += sequence.n_returned_blocks();
    scheduler_.finish(sequence);
    scheduler_.check_integrity();
    n_finished_ += 1;
    client.expected.resize(std::size_t(sequence.n_generated_tokens()));
    ASSERT_THAT(sequence.generated_ids(), testing::ElementsAreArray(client.expected))
        << "sequence " << sequence.id();
  }

  void fail() {
    if (flights_.empty()) return;
    for (const Flight& flight : flights_) model_.spoil(flight.slot_mapping);
    flights_.clear();
    const auto lost = scheduler_.in_flight_sequences();
    scheduler_.fail();
    scheduler_.check_integrity();
    totals_.n_failures += 1;
    // The engine may end them or not.
    for (const Sequence* sequence : lost)
      if (pick(0, 3) == 0) finish(clients_[sequence->id()]);
  }

  std::mt19937 random_;
  bool is_ahead_;
  Totals& totals_;
  Limits limits_;
  Scheduler scheduler_;
  CacheModel model_;
  std::vector<Client> clients_;
  std::deque<Flight> flights_;
  std::int32_t n_finished_ = 0;
};

class SchedulerSimulation : public testing::TestWithParam<bool> {};

TEST_P(SchedulerSimulation, EndsWithEveryonesOwnTokens) {
  Totals totals;
  for (std::uint32_t seed = 0; seed < 300 && !HasFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation(seed, GetParam(), totals).run();
  }
  // Else the draws test nothing.
  EXPECT_GT(totals.n_preemptions, 200);
  EXPECT_GT(totals.n_prefix_hit_tokens, 2000);
  EXPECT_GT(totals.n_cancelled_in_flight, 200);
  EXPECT_GT(totals.n_failures, 200);
  EXPECT_GT(totals.n_returned_blocks, 2000);
  if (GetParam()) {
    EXPECT_GT(totals.n_ahead, 5000);
    EXPECT_GT(totals.n_short_of_blocks, 200);
  }
  RecordProperty("preemptions", std::to_string(totals.n_preemptions));
  RecordProperty("short_of_blocks", std::to_string(totals.n_short_of_blocks));
  RecordProperty("prefix_hit_tokens", std::to_string(totals.n_prefix_hit_tokens));
  RecordProperty("failures", std::to_string(totals.n_failures));
  RecordProperty("ahead", std::to_string(totals.n_ahead));
}

INSTANTIATE_TEST_SUITE_P(StepsAhead, SchedulerSimulation, testing::Bool(),
                         [](const auto& parameter) {
                           return parameter.param ? std::string("One") : std::string("None");
                         });

}  // namespace
}  // namespace nereid::sched
