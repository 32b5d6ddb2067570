// Batch invariance on the whole model, in every format that weights are quantised to when loaded
// and of the cache: a request gets the ids that it gets alone among 63 others whose prompts arrive
// while it runs. NEREID_AMONG_SEEDS: how many draws, where not the two that are quick.
// NEREID_AMONG_DEFAULT: the engine as it is unless told to be invariant, to see how often near ties
// fall the other way.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "device/every_device.h"
#include "nereid/engine.h"

namespace nereid {
namespace {

constexpr int kNOthers = 63;
constexpr std::int64_t kNTokens = 24;  // of the answer that is compared
constexpr int kVocab = 8000;           // of the model's; the ids above are special

int n_seeds() {
  const char* text = std::getenv("NEREID_AMONG_SEEDS");
  return text == nullptr ? 2 : std::atoi(text);
}

struct Format {
  const char* weights;  // empty: as they are stored
  const char* cache;
};

class AmongOthers : public testing::TestWithParam<std::tuple<std::string, Format>> {
 protected:
  void SetUp() override { device::require_device(std::get<0>(GetParam())); }

  Options options() const {
    const auto& [device, format] = GetParam();
    return {.model_dir = std::filesystem::path(NEREID_SOURCE_DIR) / "models" / "demo",
            .device = device,
            .n_threads = 2,
            .quantize = format.weights,
            .kv_cache = format.cache,
            .max_context_tokens = 512,
            .max_sequences = kNOthers + 1,
            .batch_invariant = std::getenv("NEREID_AMONG_DEFAULT") == nullptr};
  }

  std::size_t between(std::size_t low, std::size_t high) {
    return low + random_() % (high - low + 1);
  }

  // Half of the prompts are a few tokens; the others may take several steps.
  Request drawn_request() {
    Request request{.max_tokens = std::int64_t(between(20, 100)), .ignore_eos = true};
    request.prompt_ids.resize(random_() % 2 == 0 ? between(1, 12) : between(13, 160));
    for (auto& id : request.prompt_ids) id = TokenId(random_() % kVocab);
    return request;
  }

  SamplingParams seeded() {
    return {.temperature = 0.9F, .top_p = random_() % 2 == 0 ? 1.0F : 0.9F, .seed = random_()};
  }

  Request drawn_other() {
    Request request = drawn_request();
    if (random_() % 2 == 0) request.sampling = seeded();
    if (random_() % 8 == 0) request.sampling.presence_penalty = 0.5F;
    if (random_() % 16 == 0) request.n_logprobs = 2;
    return request;
  }

  // The ids of `request`; one or two of the others come with each step until all are there.
  std::vector<TokenId> run_among_others(Engine& engine, const Request& request) {
    int n_others = 0;
    std::vector<RequestId> others;
    const auto add_others = [&](std::size_t n) {
      for (; n > 0 && n_others < kNOthers; --n, ++n_others)
        others.push_back(engine.submit(drawn_other()));
    };
    add_others(between(20, 40));
    for (auto n = between(0, 4); n > 0; --n) engine.step();
    const RequestId ours = engine.submit(request);
    bool is_finished = false;
    while (!is_finished) {
      add_others(between(1, 2));
      engine.step([&](const Progress& progress) {
        is_finished |= progress.request == ours && progress.finish_reason != FinishReason::none;
      });
    }
    for (const RequestId other : others) engine.cancel(other);
    while (engine.step()) {
    }
    for (const RequestId other : others)
      EXPECT_NE(engine.take(other).answers[0].finish_reason, FinishReason::error);
    return engine.take(ours).answers[0].ids;
  }

  std::mt19937_64 random_;
};

TEST_P(AmongOthers, ARequestGetsTheIdsItGetsAlone) {
  Engine engine(options());
  int n_different = 0;
  ASSERT_GT(n_seeds(), 0) << "NEREID_AMONG_SEEDS is no number of draws";
  for (int seed = 0; seed < n_seeds(); ++seed) {
    for (const bool is_seeded : {false, true}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << (is_seeded ? ", seeded" : ", greedy"));
      random_.seed(std::uint64_t(2 * seed + is_seeded));
      Request request = drawn_request();
      if (is_seeded) request.sampling = seeded();
      request.max_tokens = kNTokens;
      request.cache_salt = "alone";
      const auto alone = engine.run({&request, 1})[0].answers[0].ids;
      ASSERT_EQ(alone.size(), std::size_t(kNTokens));
      // Either its prompt is computed again, or found.
      if (random_() % 4 != 0) request.cache_salt = "among others";
      const auto among = run_among_others(engine, request);
      EXPECT_EQ(among, alone) << "a prompt of " << request.prompt_ids.size() << " tokens";
      n_different += among != alone;
    }
  }
  EXPECT_EQ(n_different, 0) << "of " << 2 * n_seeds();
}

const auto kFormats = testing::Values(Format{"", "auto"}, Format{"", "fp8"}, Format{"int8", "auto"},
                                      Format{"fp8", "auto"}, Format{"int4", "fp8"});

INSTANTIATE_TEST_SUITE_P(Devices, AmongOthers,
                         testing::Combine(testing::Values("cpu", "cuda"), kFormats),
                         [](const auto& named) {
                           const auto& format = std::get<1>(named.param);
                           const std::string weights =
                               *format.weights == '\0' ? "fp16" : format.weights;
                           return std::get<0>(named.param) + "_" + weights + "_cache_" +
                                  format.cache;
                         });

}  // namespace
}  // namespace nereid
