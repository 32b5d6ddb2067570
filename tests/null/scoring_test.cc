// Scores over a fake model, in chunks of any size; and of two, side by side.
#include "engine/scoring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "engine/comparing.h"
#include "null/fake_runner.h"

namespace nereid::engine {
namespace {

std::vector<std::int32_t> some_ids(int n_ids) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < n_ids; ++i) ids.push_back((i * 37 + 11) % std::int32_t(FakeRunner::kVocab));
  return ids;
}

TEST(Score, IsTheSameForAnyChunk) {
  const auto ids = some_ids(50);
  double sum = 0;
  std::vector<float> expected;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    expected.push_back(
        FakeRunner::logprob({ids.begin(), ids.begin() + std::ptrdiff_t(t) + 1}, ids[t + 1]));
    sum -= double(expected.back());
  }
  for (const std::int64_t max_step_tokens : {1, 7, 49, 50, 64}) {
    FakeRunner runner(
        {.n_kv_blocks = 16, .max_batch_tokens = max_step_tokens, .max_sequences = max_step_tokens});
    const Score result = score(runner, ids);
    EXPECT_EQ(result.logprobs, expected);
    EXPECT_DOUBLE_EQ(result.nll, sum / 49);
    EXPECT_DOUBLE_EQ(result.perplexity, std::exp(sum / 49));
    EXPECT_EQ(runner.n_steps, (50 + max_step_tokens - 1) / max_step_tokens);
  }
}

TEST(Score, HandsOutLogitsInOrder) {
  FakeRunner runner({.n_kv_blocks = 16, .max_batch_tokens = 8, .max_sequences = 8});
  const auto ids = some_ids(20);
  std::vector<float> logits;
  score(runner, ids, [&](std::int64_t first_row, std::span<const float> rows) {
    EXPECT_EQ(first_row * FakeRunner::kVocab, std::int64_t(logits.size()));
    logits.insert(logits.end(), rows.begin(), rows.end());
  });
  ASSERT_EQ(logits.size(), 20U * FakeRunner::kVocab);
  for (std::size_t t = 0; t < 20; ++t)
    EXPECT_EQ(logits[t * FakeRunner::kVocab + 3], float((t + 1) * 1000 + 3));
}

// Kernels of a test: the first logit of each row tells which row it is.
TEST(Compare, IsOfEveryScoredPositionWhateverTheSteps) {
  const auto ids = some_ids(50);
  for (const auto& [p_step_tokens, q_step_tokens] :
       {std::pair<std::int64_t, std::int64_t>(64, 64), {64, 7}, {1, 50}, {13, 12}}) {
    const auto options = [](std::int64_t n) {
      return FakeOptions{.n_kv_blocks = 16, .max_batch_tokens = n, .max_sequences = n};
    };
    FakeRunner p(options(p_step_tokens)), q(options(q_step_tokens));
    std::size_t n_rows = 0;
    const auto result = compare(p, q, ids, [&](auto of_p, auto of_q, auto kl, auto is_same) {
      EXPECT_TRUE(std::ranges::equal(of_p, of_q));
      for (std::size_t i = 0; i < kl.size(); ++i) {
        const auto row = of_p[i * std::size_t(FakeRunner::kVocab)] / 1000;
        EXPECT_EQ(row, float(++n_rows));
        kl[i] = row;
        is_same[i] = n_rows % 7 == 0 ? 0 : 1;
      }
    });
    EXPECT_EQ(n_rows, 50U);
    EXPECT_DOUBLE_EQ(result.kl_mean, 25.0);  // of 1 to 49
    EXPECT_DOUBLE_EQ(result.kl_max, 49.0);
    EXPECT_DOUBLE_EQ(result.same_top, 42.0 / 49.0);
    EXPECT_EQ(result.p.logprobs, score(p, ids).logprobs);
    EXPECT_EQ(result.q.logprobs, result.p.logprobs);
    EXPECT_DOUBLE_EQ(result.perplexity_ratio(), 1.0);
    EXPECT_THROW(compare(p, q, some_ids(1), {}), Error);
    EXPECT_THROW(compare(p, q, {}, {}), Error);
  }
}

TEST(Score, OneTokenHasNothingToScore) {
  FakeRunner runner({.n_kv_blocks = 16, .max_batch_tokens = 8, .max_sequences = 8});
  EXPECT_THROW(score(runner, some_ids(1)), Error);
  EXPECT_EQ(runner.n_steps, 0);
  // Its logits can be had.
  std::size_t n_logits = 0;
  const Score result = score(runner, some_ids(1), [&](std::int64_t, std::span<const float> rows) {
    n_logits += rows.size();
  });
  EXPECT_EQ(n_logits, std::size_t(FakeRunner::kVocab));
  EXPECT_TRUE(result.logprobs.empty());
  EXPECT_TRUE(std::isnan(result.nll));
  EXPECT_TRUE(std::isnan(result.perplexity));
}

TEST(Score, BadIdsAreErrors) {
  FakeRunner runner({.n_kv_blocks = 4});
  EXPECT_THROW(score(runner, {}), Error);
  EXPECT_THROW(score(runner, some_ids(17)), Error);  // 4 blocks of 4
  EXPECT_THROW(score(runner, std::vector<std::int32_t>{97}), Error);
  EXPECT_THROW(score(runner, std::vector<std::int32_t>{-1}), Error);
  EXPECT_EQ(runner.n_steps, 0);
}

}  // namespace
}  // namespace nereid::engine
