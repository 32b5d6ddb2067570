// Scores over a fake model, in chunks of any size.
#include "engine/scoring.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
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
