// Answers with a constraint over a fake model: when they end, what happens where nothing can be
// chosen, and what a failure between a step's two parts costs.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <vector>

#include "engine/generator.h"
#include "null/generated_requests.h"

namespace nereid::engine {
namespace {

// Allows what a table says after so many tokens, and the last row from then on.
class TableMatcher final : public TokenMatcher {
 public:
  struct Row {
    std::vector<TokenId> allowed;
    bool is_complete = false;
    bool is_finished = false;
    bool throws = false;
  };
  explicit TableMatcher(std::vector<Row> rows) : rows_(std::move(rows)) {}

  bool accept(TokenId id) override {
    if (std::ranges::find(row().allowed, id) == row().allowed.end()) return false;
    ++n_;
    return true;
  }
  void fill_mask(std::span<std::uint32_t> mask) override {
    if (row().throws) throw std::runtime_error("the table is used up");
    std::ranges::fill(mask, 0U);
    for (const auto id : row().allowed) mask[std::size_t(id) / 32] |= 1U << (id % 32);
  }
  bool is_complete() const override { return row().is_complete; }
  bool is_finished() const override { return row().is_finished; }

 private:
  const Row& row() const { return rows_[std::min(n_, rows_.size() - 1)]; }

  std::vector<Row> rows_;
  std::size_t n_ = 0;
};

// Answers to requests, each with a table of its own or none, run together.
std::vector<Answer> answers(
    FakeRunner& runner,
    const std::vector<std::pair<Request, std::vector<TableMatcher::Row>>>& asked) {
  Generator generator(runner, {kFakeEos});
  std::map<RequestId, Answer> all;
  for (const auto& [request, rows] : asked) {
    MatcherMaker make;
    if (!rows.empty()) make = [&rows] { return std::make_unique<TableMatcher>(rows); };
    all[generator.submit(request, Clock::now(), make)];
  }
  while (generator.step([&](const AnswerEvent& event) {
    auto& answer = all.at(event.request);
    EXPECT_EQ(answer.finish_reason, FinishReason::none);
    answer.ids.insert(answer.ids.end(), event.ids.begin(), event.ids.end());
    answer.finish_reason = event.finish_reason;
    answer.error = event.error;
    EXPECT_EQ(event.has_end_token, !event.ids.empty() && event.ids[0] == kFakeEos);
    return false;
  }))
    generator.check_integrity();
  generator.check_integrity();
  std::vector<Answer> in_order;
  for (auto& [id, answer] : all) in_order.push_back(answer);
  return in_order;
}

class ConstrainedAnswers : public testing::TestWithParam<bool> {
 protected:
  FakeOptions options() const { return {.works_beside_host = GetParam()}; }
  const Request request_{.prompt_ids = {5, 6}, .max_tokens = 20};
};

INSTANTIATE_TEST_SUITE_P(StepByStepAndAhead, ConstrainedAnswers, testing::Bool());

TEST_P(ConstrainedAnswers, EndWhereNothingCanFollow) {
  FakeRunner runner(options());
  const auto got = answers(runner, {{request_,
                                     {{.allowed = {40}},
                                      {.allowed = {41}},
                                      {.allowed = {42}, .is_complete = true, .is_finished = true}}},
                                    {request_, {}}});
  EXPECT_EQ(got[0].ids, (std::vector<TokenId>{40, 41}));
  EXPECT_EQ(got[0].finish_reason, FinishReason::stop);
  EXPECT_EQ(got[1].ids, answer_alone(request_, 0, 1).ids);
  EXPECT_EQ(runner.n_held_steps, 2 + GetParam());
}

TEST_P(ConstrainedAnswers, EndTokensComeOnlyWhereTheTextIsComplete) {
  FakeRunner runner(options());
  auto with_stop_id = request_;
  with_stop_id.stop_ids = {42};
  // A mask's own bits of tokens that end an answer say nothing.
  const auto got = answers(
      runner, {{request_, {{.allowed = {40, kFakeEos}}, {.allowed = {}, .is_complete = true}}},
               {with_stop_id, {{.allowed = {41, 42}}, {.allowed = {41, 42}}, {.allowed = {}}}}});
  EXPECT_EQ(got[0].ids, (std::vector<TokenId>{40, kFakeEos}));
  EXPECT_EQ(got[0].finish_reason, FinishReason::stop);
  EXPECT_EQ(got[1].ids, (std::vector<TokenId>{41, 41}));
  EXPECT_EQ(got[1].finish_reason, FinishReason::error);
  EXPECT_NE(got[1].error.find("no token"), std::string::npos) << got[1].error;
}

TEST_P(ConstrainedAnswers, AConstraintEndsThemBeforeMinTokensAndPastIgnoredEnds) {
  FakeRunner runner(options());
  auto longer = request_;
  longer.min_tokens = 10;
  auto endless = request_;
  endless.ignore_eos = true;
  const std::vector<TableMatcher::Row> rows{{.allowed = {40}},
                                            {.allowed = {}, .is_complete = true}};
  for (const auto& answer : answers(runner, {{longer, rows}, {endless, rows}})) {
    EXPECT_EQ(answer.ids, std::vector<TokenId>{40});
    EXPECT_EQ(answer.finish_reason, FinishReason::stop);
  }
  auto two = request_;
  two.min_tokens = 2;
  FakeRunner another(options());
  const auto got = answers(another, {{two, {{.allowed = {40, kFakeEos}, .is_complete = true}}}});
  ASSERT_GE(got[0].ids.size(), 3U);
  EXPECT_EQ(got[0].ids[0], 40);
  EXPECT_EQ(got[0].ids[1], 40);
}

TEST_P(ConstrainedAnswers, AllowedIdsHoldBesideIt) {
  FakeRunner runner(options());
  auto some = request_;
  some.allowed_ids = {70, 2, 96, 41};
  some.max_tokens = 5;
  const auto got = answers(runner, {{some, {{.allowed = {1, 41, 71, 33}}}}});
  EXPECT_EQ(got[0].ids, (std::vector<TokenId>(5, 41)));
  EXPECT_EQ(got[0].finish_reason, FinishReason::length);
}

TEST_P(ConstrainedAnswers, AMatcherThatThrowsCostsItsAnswerAlone) {
  FakeRunner runner(options());
  const auto got = answers(
      runner, {{request_, {{.allowed = {40}}, {.allowed = {}, .throws = true}}}, {request_, {}}});
  EXPECT_EQ(got[0].ids, std::vector<TokenId>{40});
  EXPECT_EQ(got[0].finish_reason, FinishReason::error);
  EXPECT_EQ(got[0].error, "the table is used up");
  EXPECT_EQ(got[1].ids, answer_alone(request_, 0, 1).ids);
}

// Chooses what no mask allows.
class DisobedientRunner : public FakeRunner {
 public:
  using FakeRunner::FakeRunner;

 protected:
  std::int32_t choose(const Ids&, const SamplingRow&, const Slot&) override { return 77; }
};

TEST_P(ConstrainedAnswers, ATokenThatIsNotAllowedIsAnErrorAndIsNotTold) {
  DisobedientRunner runner(options());
  const auto got = answers(runner, {{request_, {{.allowed = {40}}}}});
  EXPECT_TRUE(got[0].ids.empty());
  EXPECT_EQ(got[0].finish_reason, FinishReason::error);
  EXPECT_NE(got[0].error.find("token 77"), std::string::npos) << got[0].error;
}

TEST_P(ConstrainedAnswers, StepsWithoutThemWaitForNothing) {
  FakeRunner runner(options());
  auto masked = request_;
  masked.allowed_ids = {3, 4, 5};
  answers(runner, {{request_, {}}, {masked, {}}});
  EXPECT_EQ(runner.n_held_steps, 0);
}

// Fails where it is told to, in the tail of a step.
class FailingTailRunner : public FakeRunner {
 public:
  using FakeRunner::FakeRunner;
  int fail_at = -1;  // of the tails that were held
  int n_tails = 0;

 protected:
  void on_tail(int) override {
    if (n_tails++ == fail_at) throw std::runtime_error("the tail failed");
  }
};

TEST_P(ConstrainedAnswers, ATailThatFailsCostsWhatWasInFlight) {
  const auto requests = [&] {
    auto drawn = drawn_requests(12, 21);
    for (auto& request : drawn) request.n_answers = 1, request.n_prompt_logprobs = {};
    return drawn;
  }();
  int n_failed_rounds = 0;
  for (int fail_at = 0; fail_at < 40; fail_at += 3) {
    SCOPED_TRACE(fail_at);
    FailingTailRunner runner(options());
    runner.fail_at = fail_at;
    Generator generator(runner, {kFakeEos});
    std::map<RequestId, Answer> all;
    for (const auto& request : requests)
      all[generator.submit(request, Clock::now(), scripted_matchers(request.constraint))];
    while (generator.step([&](const AnswerEvent& event) {
      auto& answer = all.at(event.request);
      answer.ids.insert(answer.ids.end(), event.ids.begin(), event.ids.end());
      answer.finish_reason = event.finish_reason;
      answer.error = event.error;
      return false;
    }))
      generator.check_integrity();
    generator.check_integrity();
    int n_lost = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto expected = answer_alone(requests[i], 0, i);
      const auto& got = all.at(RequestId(i));
      if (got.error == "the tail failed") {
        ++n_lost;
        ASSERT_LE(got.ids.size(), expected.ids.size());
        EXPECT_TRUE(std::equal(got.ids.begin(), got.ids.end(), expected.ids.begin()));
      } else {
        EXPECT_EQ(got.ids, expected.ids) << i;
        EXPECT_EQ(got.finish_reason, expected.finish_reason) << i;
      }
    }
    EXPECT_EQ(n_lost > 0, runner.n_tails > fail_at);
    n_failed_rounds += n_lost > 0;
  }
  EXPECT_GT(n_failed_rounds, 5);
}

}  // namespace
}  // namespace nereid::engine
