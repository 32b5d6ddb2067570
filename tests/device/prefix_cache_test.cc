// A prompt that begins as another did is computed from where they part on, on the whole model, and
// its answers are those of an engine that computes all of it.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "device/every_device.h"
#include "nereid/engine.h"

namespace nereid {
namespace {

constexpr std::int64_t kNShared = 1024;
constexpr int kVocab = 8000;  // of the model's; the ids above are special

class PrefixCache : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { device::require_device(GetParam()); }

  Options options(bool prefix_caching) const {
    return {.model_dir = std::filesystem::path(NEREID_SOURCE_DIR) / "models" / "demo",
            .device = GetParam(),
            .n_threads = 2,
            .max_context_tokens = 1536,
            .max_sequences = 4,
            .prefix_caching = prefix_caching};
  }

  std::vector<TokenId> drawn(std::int64_t n_tokens) {
    std::vector<TokenId> ids;
    for (std::int64_t i = 0; i < n_tokens; ++i) ids.push_back(TokenId(random_() % kVocab));
    return ids;
  }

  // `greedy`, and the same drawn with a seed.
  static std::vector<Request> both_ways(Request greedy) {
    Request seeded = greedy;
    seeded.sampling = {.temperature = 0.8F, .top_p = 0.95F, .seed = 5};
    return {greedy, seeded};
  }

  std::mt19937 random_{31};
};

std::vector<TokenId> joined(std::vector<TokenId> ids, const std::vector<TokenId>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
  return ids;
}

class Counted {
 public:
  explicit Counted(const Options& options) : engine_(options) {}
  // By itself, to its end. The ids of its answer.
  std::vector<TokenId> run(const Request& request) {
    const auto before = engine_.stats();
    const auto completion = engine_.run({&request, 1})[0];
    const auto after = engine_.stats();
    n_computed = after.n_prompt_tokens - before.n_prompt_tokens;
    n_cached = completion.n_cached_tokens;
    EXPECT_EQ(after.n_cached_tokens - before.n_cached_tokens, n_cached);
    EXPECT_EQ(n_computed + n_cached, std::ssize(request.prompt_ids));
    EXPECT_EQ(completion.answers[0].finish_reason, FinishReason::length);
    return completion.answers[0].ids;
  }

  // Prompt tokens of the last one.
  std::int64_t n_computed = 0;
  std::int64_t n_cached = 0;

 private:
  Engine engine_;
};

TEST_P(PrefixCache, OnlyTheRestIsComputed) {
  Counted with(options(true)), without(options(false));
  const std::pair<std::int64_t, bool> cases[] = {{1, false}, {37, true}, {300, false}};
  for (const auto& [n_rest, is_seeded] : cases) {
    SCOPED_TRACE(testing::Message() << n_rest << " tokens of its own, seeded " << is_seeded);
    const auto shared = drawn(kNShared);
    const auto make = [&](std::int64_t n_own) {
      return both_ways({.prompt_ids = joined(shared, drawn(n_own)),
                        .max_tokens = 24,
                        .ignore_eos = true})[is_seeded];
    };
    with.run(make(50));
    EXPECT_EQ(with.n_cached, 0);
    auto second = make(n_rest);
    const auto expected = without.run(second);
    EXPECT_EQ(without.n_cached, 0);
    EXPECT_EQ(with.run(second), expected);
    EXPECT_EQ(with.n_cached, kNShared);
    EXPECT_EQ(with.n_computed, n_rest);

    second.cache_salt = "another's";
    EXPECT_EQ(with.run(second), expected);
    EXPECT_EQ(with.n_cached, 0);
    EXPECT_EQ(with.n_computed, kNShared + n_rest);
  }
}

// Something has to be computed for the first new token to come of.
TEST_P(PrefixCache, TheSamePromptAgain) {
  Counted with(options(true)), without(options(false));
  for (const auto& request :
       both_ways({.prompt_ids = drawn(kNShared), .max_tokens = 24, .ignore_eos = true})) {
    const auto expected = without.run(request);
    with.run(request);
    EXPECT_EQ(with.run(request), expected);
    EXPECT_GT(with.n_computed, 0);
    EXPECT_LE(with.n_computed, 64);
  }
}

TEST_P(PrefixCache, TheNextTurnOfAChat) {
  Counted with(options(true)), without(options(false));
  for (auto turn : both_ways({.prompt_ids = drawn(200), .max_tokens = 70, .ignore_eos = true})) {
    std::int64_t n_known = 0;  // tokens of the turn before with keys and values
    for (int i = 0; i < 4; ++i) {
      SCOPED_TRACE(testing::Message()
                   << "turn " << i << ", seeded " << (turn.sampling.temperature > 0));
      turn.cache_salt = turn.sampling.temperature > 0 ? "seeded" : "greedy";
      const auto answer = with.run(turn);
      EXPECT_EQ(answer, without.run(turn));
      EXPECT_EQ(with.n_cached, n_known - n_known % 64);  // whole blocks
      turn.prompt_ids = joined(joined(turn.prompt_ids, answer), drawn(30));
      n_known = std::ssize(turn.prompt_ids) - 30 - 1;  // the last one was chosen, not computed
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, PrefixCache, testing::Values("cpu", "cuda"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace nereid
