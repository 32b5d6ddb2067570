// Requests to tokens and text over a fake model, compared with running that model alone, token by
// token.
#include "engine/generator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "base/error.h"
#include "engine/session.h"
#include "null/fake_runner.h"

namespace nereid::engine {
namespace {

constexpr TokenId kEos = 11;

// The reference: one sequence, the whole context each time.
std::vector<TokenId> expected_ids(const Request& request, std::uint64_t seed,
                                  FinishReason& reason) {
  std::vector<TokenId> context = request.prompt_ids;
  std::vector<TokenId> ids;
  reason = FinishReason::length;
  while (std::int64_t(ids.size()) < request.max_tokens &&
         std::int64_t(context.size()) < FakeRunner::kContext) {
    SamplingRow row;
    row.params = request.sampling;
    row.seed = request.sampling.seed.value_or(seed);
    row.n_generated = std::int32_t(ids.size());
    ids.push_back(FakeRunner::next_id(context, row));
    context.push_back(ids.back());
    if (!request.ignore_eos && ids.back() == kEos) {
      reason = FinishReason::stop;
      break;
    }
  }
  return ids;
}

std::vector<Request> mixed_requests(int n_requests, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Request> requests;
  for (int i = 0; i < n_requests; ++i) {
    Request request;
    request.prompt_ids.resize(1 + random() % 30);
    for (auto& id : request.prompt_ids) id = TokenId(random() % FakeRunner::kVocab);
    request.max_tokens = 1 + random() % 60;
    request.ignore_eos = random() % 2 == 0;
    if (random() % 3 == 0) request.sampling.temperature = 0.7F;
    if (random() % 3 == 0) request.sampling.repetition_penalty = 1.2F;
    if (random() % 6 == 0) request.sampling.frequency_penalty = -0.5F;
    if (random() % 4 == 0) request.sampling.seed = random();
    requests.push_back(request);
  }
  return requests;
}

void expect_all_as_alone(FakeRunner runner, bool expect_preemption) {
  Generator generator(runner, nullptr, {kEos});
  const auto requests = mixed_requests(40, 5);
  std::map<RequestId, std::vector<TokenId>> streamed;
  std::map<RequestId, FinishReason> ended;
  std::vector<RequestId> ids;
  std::size_t n_submitted = 0;
  const auto on_progress = [&](const Progress& progress) {
    EXPECT_FALSE(ended.contains(progress.request));
    streamed[progress.request].insert(streamed[progress.request].end(), progress.ids.begin(),
                                      progress.ids.end());
    if (progress.finish_reason != FinishReason::none)
      ended[progress.request] = progress.finish_reason;
  };
  // Half at once, then one a step: requests arrive while others run.
  while (n_submitted < requests.size() / 2)
    ids.push_back(generator.submit(requests[n_submitted++]));
  while (generator.step(on_progress) || n_submitted < requests.size()) {
    generator.scheduler().check_integrity();
    if (n_submitted < requests.size()) ids.push_back(generator.submit(requests[n_submitted++]));
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    FinishReason reason{};
    const auto expected = expected_ids(requests[i], std::uint64_t(i), reason);
    EXPECT_EQ(streamed[ids[i]], expected) << "request " << i;
    EXPECT_EQ(ended[ids[i]], reason) << "request " << i;
    const Completion completion = generator.take(ids[i]);
    EXPECT_EQ(completion.ids, expected);
    EXPECT_EQ(completion.prompt_ids, requests[i].prompt_ids);
    EXPECT_EQ(completion.finish_reason, reason);
  }
  EXPECT_EQ(generator.scheduler().pool().n_used_blocks(), 0);
  EXPECT_EQ(generator.stats().n_preemptions > 0, expect_preemption);
}

TEST(Generator, BatchedIsAsAlone) { expect_all_as_alone(FakeRunner(256), false); }
TEST(Generator, OneSequenceAtATimeIsAsAlone) { expect_all_as_alone(FakeRunner(256, 16, 1), false); }
TEST(Generator, TinyChunksAreAsAlone) { expect_all_as_alone(FakeRunner(256, 4, 4), false); }
TEST(Generator, PreemptedIsAsAlone) { expect_all_as_alone(FakeRunner(20, 16, 8), true); }

// A token that makes a sequence's logits NaN, in some prompts and in some answers.
TEST(Generator, LogitsThatAreNotFiniteEndTheirRequestAlone) {
  FakeRunner runner(256, 16, 8);
  runner.odd_id = 17;
  Generator generator(runner, nullptr, {kEos});
  const auto requests = mixed_requests(40, 7);
  std::vector<RequestId> ids;
  for (const auto& request : requests) ids.push_back(generator.submit(request));
  std::map<RequestId, FinishReason> ended;
  while (generator.step([&](const Progress& progress) {
    if (progress.finish_reason != FinishReason::none)
      ended[progress.request] = progress.finish_reason;
  }))
    generator.scheduler().check_integrity();
  int n_errors = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    FinishReason reason{};
    auto expected = expected_ids(requests[i], std::uint64_t(i), reason);
    const auto& prompt = requests[i].prompt_ids;
    const bool is_odd_prompt = std::ranges::find(prompt, 17) != prompt.end();
    const auto odd = std::ranges::find(expected, 17);
    // The token after it is the one that cannot be chosen.
    if (!expected.empty() &&
        (is_odd_prompt || (odd != expected.end() && odd + 1 != expected.end()))) {
      expected.erase(is_odd_prompt ? expected.begin() : odd + 1, expected.end());
      reason = FinishReason::error;
    }
    EXPECT_EQ(ended[ids[i]], reason) << "request " << i;
    const Completion completion = generator.take(ids[i]);
    EXPECT_EQ(completion.ids, expected) << "request " << i;
    EXPECT_EQ(completion.finish_reason, reason);
    EXPECT_EQ(completion.error.find("not finite") != std::string::npos,
              reason == FinishReason::error);
    n_errors += reason == FinishReason::error ? 1 : 0;
  }
  EXPECT_GT(n_errors, 3);
  EXPECT_LT(n_errors, 37);
  EXPECT_EQ(generator.scheduler().pool().n_used_blocks(), 0);
}

TEST(Generator, ContextEndsAtTheCacheWhereThatIsSmaller) {
  FakeRunner runner(5);
  Generator generator(runner, nullptr, {kEos});
  EXPECT_EQ(runner.limits().max_sequence_tokens(), 5 * FakeRunner::kBlockTokens);
  const auto id =
      generator.submit({.prompt_ids = {1, 2, 3}, .max_tokens = 1000, .ignore_eos = true});
  while (generator.step({})) {
  }
  const Completion completion = generator.take(id);
  EXPECT_EQ(completion.ids.size(), 17U);
  EXPECT_EQ(completion.finish_reason, FinishReason::length);
}

TEST(Generator, NoTokensWantedOrNoRoomEndsAtOnce) {
  FakeRunner runner(64);
  Generator generator(runner, nullptr, {kEos});
  const auto none = generator.submit({.prompt_ids = {1}, .max_tokens = 0});
  const auto full = generator.submit({.prompt_ids = std::vector<TokenId>(FakeRunner::kContext, 1)});
  int n_ends = 0;
  EXPECT_FALSE(generator.step([&](const Progress& progress) {
    EXPECT_EQ(progress.finish_reason, FinishReason::length);
    ++n_ends;
  }));
  EXPECT_EQ(n_ends, 2);
  EXPECT_EQ(runner.n_steps, 0);
  EXPECT_TRUE(generator.take(none).ids.empty());
  EXPECT_EQ(generator.take(full).prompt_ids.size(), std::size_t(FakeRunner::kContext));
}

std::string error_of(Generator& generator, const Request& request) {
  try {
    generator.submit(request);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Generator, BadRequestsAreErrorsAndLeaveNoTrace) {
  FakeRunner runner(64);
  Generator generator(runner, nullptr, {kEos});
  const auto mentions = [&](const Request& request, const std::string& text) {
    const std::string error = error_of(generator, request);
    EXPECT_NE(error.find(text), std::string::npos) << error;
  };
  mentions({.prompt = "text"}, "tokenizer.json");
  mentions({.prompt_ids = std::vector<TokenId>(65, 1)}, "65 tokens; expected at most 64");
  mentions({.prompt_ids = {1, 97}}, "97");
  mentions({.prompt_ids = {-1}}, "-1");
  mentions({.prompt_ids = {1}, .max_tokens = -1}, "max_tokens");
  mentions({.prompt_ids = {1}, .stop = {""}}, "stop string");
  mentions({.prompt_ids = {1}, .stop = {"x"}}, "tokenizer.json");
  mentions({.prompt_ids = {1}, .sampling = {.temperature = -1}}, "temperature");
  mentions({.prompt_ids = {1}, .sampling = {.temperature = NAN}}, "temperature");
  mentions({.prompt_ids = {1}, .sampling = {.top_k = -2}}, "top_k");
  mentions({.prompt_ids = {1}, .sampling = {.top_p = 0}}, "top_p");
  mentions({.prompt_ids = {1}, .sampling = {.min_p = 2}}, "min_p");
  mentions({.prompt_ids = {1}, .sampling = {.repetition_penalty = 0}}, "repetition_penalty");
  mentions({.prompt_ids = {1}, .sampling = {.presence_penalty = NAN}}, "presence_penalty");
  EXPECT_FALSE(generator.scheduler().has_work());
  const auto id = generator.submit({.prompt_ids = {1}, .max_tokens = 1});
  EXPECT_EQ(id, 0);
  generator.step({});
  EXPECT_EQ(generator.take(id).ids.size(), 1U);
}

TEST(Generator, CancelEndsOneAndFreesItsBlocks) {
  FakeRunner runner(64);
  Generator generator(runner, nullptr, {kEos});
  const Request request{.prompt_ids = {5, 6}, .max_tokens = 20, .ignore_eos = true};
  const auto cancelled = generator.submit(request);
  const auto other = generator.submit(request);
  int n_tokens = 0;
  FinishReason reason{};
  const auto on_progress = [&](const Progress& progress) {
    if (progress.request != cancelled) return;
    reason = progress.finish_reason;
    n_tokens += int(progress.ids.size());
    if (n_tokens == 3) generator.cancel(cancelled);
  };
  while (generator.step(on_progress)) {
  }
  EXPECT_EQ(n_tokens, 3);
  EXPECT_EQ(reason, FinishReason::cancelled);
  EXPECT_EQ(generator.take(cancelled).ids.size(), 3U);
  EXPECT_EQ(generator.take(other).ids.size(), 20U);
  generator.cancel(cancelled);
  generator.cancel(12345);
  EXPECT_FALSE(generator.step({}));
  EXPECT_EQ(generator.scheduler().pool().n_used_blocks(), 0);
}

TEST(Generator, SeedsRepeatAndDiffer) {
  FakeRunner runner(64);
  const auto run = [&](std::optional<std::uint64_t> seed) {
    Generator generator(runner, nullptr, {kEos});
    std::vector<RequestId> ids;
    for (int i = 0; i < 2; ++i)
      ids.push_back(generator.submit({.prompt_ids = {1, 2},
                                      .sampling = {.temperature = 1.0F, .seed = seed},
                                      .max_tokens = 20,
                                      .ignore_eos = true}));
    while (generator.step({})) {
    }
    return std::pair(generator.take(ids[0]).ids, generator.take(ids[1]).ids);
  };
  const auto unseeded = run(std::nullopt);
  EXPECT_NE(unseeded.first, unseeded.second);
  EXPECT_EQ(unseeded, run(std::nullopt));
  const auto seeded = run(0);
  EXPECT_EQ(seeded.first, seeded.second);
  EXPECT_EQ(seeded.first, unseeded.first);
  EXPECT_NE(run(1).first, seeded.first);
}

TEST(Generator, AFailedStepIsReported) {
  FakeRunner runner(64);
  runner.fail_at_step = 2;
  Generator generator(runner, nullptr, {kEos});
  generator.submit({.prompt_ids = {1}, .max_tokens = 20, .ignore_eos = true});
  EXPECT_TRUE(generator.step({}));
  EXPECT_TRUE(generator.step({}));
  EXPECT_THROW(generator.step({}), Error);
}

// A model that says a given text, whatever it is asked.
class ScriptedRunner : public FakeRunner {
 public:
  explicit ScriptedRunner(std::vector<TokenId> script)
      : FakeRunner(64), script_(std::move(script)) {}
  std::int64_t vocab_size() const override { return 8192; }
  StepResult step(const StepRequest& request) override {
    ids_.clear();
    for (const auto& row : request.sampling)
      ids_.push_back(script_.at(std::size_t(row.n_generated)));
    return {.ids = ids_, .logprobs = {}};
  }

 private:
  std::vector<TokenId> script_;
  std::vector<TokenId> ids_;
};

class GeneratorText : public testing::Test {
 protected:
  static constexpr TokenId kDemoEos = 8184;

  static void SetUpTestSuite() {
    tokenizer_ = load_tokenizer(std::string(NEREID_SOURCE_DIR) + "/models/demo");
    ASSERT_TRUE(tokenizer_);
  }
  static void TearDownTestSuite() { tokenizer_.reset(); }

  struct Said {
    Completion completion;
    std::vector<std::string> pieces;
  };

  static Said say(std::vector<TokenId> script, const std::vector<std::string>& stop,
                  bool ignore_eos = false) {
    const auto n_tokens = std::int64_t(script.size());
    ScriptedRunner runner(std::move(script));
    Generator generator(runner, tokenizer_.get(), {kDemoEos});
    const auto id = generator.submit(
        {.prompt = "x", .max_tokens = n_tokens, .stop = stop, .ignore_eos = ignore_eos});
    Said said;
    std::string streamed;
    while (generator.step([&](const Progress& progress) {
      said.pieces.emplace_back(progress.text);
      streamed += progress.text;
    })) {
    }
    said.completion = generator.take(id);
    EXPECT_EQ(streamed, said.completion.text);
    return said;
  }

  static std::vector<TokenId> ids_of(const std::string& text) {
    return tokenizer_->encode(text, false);
  }

  static inline std::unique_ptr<const tokenizer::Tokenizer> tokenizer_;
};

TEST_F(GeneratorText, IsTheDecodedIds) {
  const std::string text = "    return \xE6\x97\xA5\xE6\x9C\xAC + \xF0\x9F\x99\x82 na\xC3\xAFve\n";
  const auto said = say(ids_of(text), {});
  EXPECT_EQ(said.completion.text, text);
  EXPECT_EQ(said.completion.ids, ids_of(text));
  EXPECT_EQ(said.completion.finish_reason, FinishReason::length);
  for (const auto& piece : said.pieces)
    EXPECT_TRUE(piece.empty() || (piece[0] & 0xC0) != 0x80) << "a piece starts inside a character";
  EXPECT_GT(std::ranges::count_if(said.pieces, [](const auto& piece) { return !piece.empty(); }),
            3);
}

TEST_F(GeneratorText, PromptHasTheTokensTheModelWants) {
  const auto said = say(ids_of("y"), {});
  EXPECT_EQ(said.completion.prompt_ids, tokenizer_->encode("x"));
  EXPECT_EQ(said.completion.prompt_ids.front(), 8183);
}

TEST_F(GeneratorText, EndsBeforeAStopString) {
  const auto said = say(ids_of("def f(x):\n    return x\n\ndef g(x):\n"), {"\n\ndef", "class"});
  EXPECT_EQ(said.completion.text, "def f(x):\n    return x");
  EXPECT_EQ(said.completion.finish_reason, FinishReason::stop);
}

TEST_F(GeneratorText, EndsAtASpecialTokenThatAStopStringNames) {
  ASSERT_TRUE(tokenizer_->is_special(kDemoEos));
  auto script = ids_of("a = 1");
  script.push_back(kDemoEos);
  const auto n_tokens = script.size();
  for (const TokenId id : ids_of(" more")) script.push_back(id);
  const std::string token(tokenizer_->token_text(kDemoEos));
  const auto said = say(script, {"= 1" + token}, /*ignore_eos=*/true);
  EXPECT_EQ(said.completion.text, "a ");
  EXPECT_EQ(said.completion.ids.size(), n_tokens);
  EXPECT_EQ(said.completion.ids.back(), kDemoEos);
  EXPECT_EQ(said.completion.finish_reason, FinishReason::stop);
}

TEST_F(GeneratorText, HeldBackTextComesAtTheEnd) {
  const std::string text = "a = 1\n\nde";
  const auto said = say(ids_of(text), {"\n\ndef"});
  EXPECT_EQ(said.completion.text, text);
  EXPECT_EQ(said.completion.finish_reason, FinishReason::length);
}

TEST_F(GeneratorText, EosEndsWithoutText) {
  auto script = ids_of("a = 1");
  const auto n_text_tokens = script.size();
  script.push_back(kDemoEos);
  for (const TokenId id : ids_of(" more")) script.push_back(id);
  const auto said = say(script, {"never"});
  EXPECT_EQ(said.completion.text, "a = 1");
  EXPECT_EQ(said.completion.finish_reason, FinishReason::stop);
  EXPECT_EQ(said.completion.ids.size(), n_text_tokens + 1);
  EXPECT_EQ(said.completion.ids.back(), kDemoEos);
  const auto on = say(script, {}, /*ignore_eos=*/true);
  EXPECT_EQ(on.completion.ids, script);
  EXPECT_EQ(on.completion.finish_reason, FinishReason::length);
}

TEST_F(GeneratorText, CharacterCutByTheEndIsReplaced) {
  auto script = ids_of("\xF0\x9F\x99\x82");
  ASSERT_GT(script.size(), 1U);
  script.pop_back();
  EXPECT_EQ(say(script, {}).completion.text, "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace nereid::engine
