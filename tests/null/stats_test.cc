// Times become the numbers that --stats prints.
#include "engine/stats.h"

#include <gtest/gtest.h>

namespace nereid::engine {
namespace {

using std::chrono::milliseconds;

TEST(Stats, SeparatesPrefillFromDecode) {
  const auto opened = Clock::time_point(milliseconds(1000));
  StatsCollector stats(opened, 3'000'000);
  stats.record_step(milliseconds(50), 100, 0);
  stats.record_first_token(opened + milliseconds(10), opened + milliseconds(60));
  stats.record_step(milliseconds(50), 20, 1);  // mixed: a prefill step
  stats.record_step(milliseconds(2), 0, 2);
  stats.record_step(milliseconds(4), 0, 2);
  stats.record_next_token(opened + milliseconds(60), opened + milliseconds(62));
  stats.record_next_token(opened + milliseconds(62), opened + milliseconds(66));
  stats.record_next_token(opened + milliseconds(66), opened + milliseconds(68));
  const Stats summary = stats.summary();
  EXPECT_DOUBLE_EQ(summary.ttft_ms, 50);
  EXPECT_DOUBLE_EQ(summary.open_to_first_token_ms, 60);
  EXPECT_DOUBLE_EQ(summary.itl_ms_median, 2);
  EXPECT_DOUBLE_EQ(summary.itl_ms_p99, 4);
  EXPECT_DOUBLE_EQ(summary.prefill_tokens_per_s, 1200);
  EXPECT_NEAR(summary.decode_tokens_per_s, 4 / 0.006, 1e-6);
  EXPECT_NEAR(summary.weight_gb_per_s, 2 * 0.003 / 0.006, 1e-9);
  EXPECT_EQ(summary.n_prompt_tokens, 120);
  EXPECT_EQ(summary.n_generated_tokens, 4);
  EXPECT_EQ(summary.n_steps, 4);
}

TEST(Stats, NothingRunIsZeroAndNotNan) {
  const Stats summary = StatsCollector(Clock::now(), 1).summary();
  EXPECT_EQ(summary.decode_tokens_per_s, 0);
  EXPECT_EQ(summary.weight_gb_per_s, 0);
  EXPECT_EQ(summary.ttft_ms, 0);
}

TEST(Stats, KeepsTheNewestGaps) {
  StatsCollector stats(Clock::time_point{}, 0);
  const Clock::time_point start{};
  for (int i = 0; i < 70'000; ++i) stats.record_next_token(start, start + milliseconds(1));
  EXPECT_DOUBLE_EQ(stats.summary().itl_ms_p99, 1);
  for (int i = 0; i < 70'000; ++i) stats.record_next_token(start, start + milliseconds(2));
  EXPECT_DOUBLE_EQ(stats.summary().itl_ms_median, 2);
}

TEST(PeakMemory, CountsWhatIsTouched) {
  const std::int64_t before = peak_memory_bytes();
  std::vector<char> block(std::size_t{64} << 20, 1);
  EXPECT_GT(block[block.size() / 2], 0);
  EXPECT_GT(peak_memory_bytes(), before + (std::int64_t{32} << 20));
}

}  // namespace
}  // namespace nereid::engine
