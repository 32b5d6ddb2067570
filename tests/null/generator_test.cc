// Requests to tokens and text over a fake model, compared with running that model alone, token by
// token.
#include "engine/generator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "base/error.h"
#include "engine/reply.h"
#include "engine/session.h"
#include "null/fake_runner.h"
#include "null/generated_requests.h"

namespace nereid::engine {
namespace {

// Requests, and their results by the order of submission.
class Harness {
 public:
  explicit Harness(Runner& runner, const tokenizer::Tokenizer* tokenizer = nullptr,
                   std::vector<TokenId> eos_ids = {kFakeEos})
      : generator(runner, std::move(eos_ids)), tokenizer_(tokenizer) {}

  RequestId submit(Request request) {
    request.prompt_ids = prompt_ids_of(request, tokenizer_);
    const RequestId id =
        generator.submit(request, Clock::now(), scripted_matchers(request.constraint));
    replies.emplace(id, Reply(tokenizer_, request, 1 << 20));
    return id;
  }

  bool step(const std::function<void(const Progress&)>& on_progress = {}) {
    return generator.step([&](const AnswerEvent& event) {
      Reply& reply = replies.at(event.request);
      EXPECT_FALSE(reply.has_ended(event.answer)) << "an event after the end";
      const auto added = reply.add(event);
      if (on_progress) on_progress(added.progress);
      return added.ends_here;
    });
  }

  void run() {
    while (step()) generator.check_integrity();
    generator.check_integrity();
  }

  Generator generator;
  std::map<RequestId, Reply> replies;

 private:
  const tokenizer::Tokenizer* tokenizer_;
};

void expect_all_as_alone(const FakeOptions& options, bool expect_preemption) {
  for (const bool works_beside_host : {false, true}) {
    SCOPED_TRACE(works_beside_host ? "a step ahead" : "step by step");
    auto with = options;
    with.works_beside_host = works_beside_host;
    FakeRunner runner(with);
    Harness harness(runner);
    const auto requests = drawn_requests(40, 5);
    std::size_t n_submitted = 0;
    // Half at once, then one a step: requests arrive while others run.
    while (n_submitted < requests.size() / 2) harness.submit(requests[n_submitted++]);
    while (harness.step() || n_submitted < requests.size()) {
      harness.generator.check_integrity();
      if (n_submitted < requests.size()) harness.submit(requests[n_submitted++]);
    }
    for (std::size_t i = 0; i < requests.size(); ++i)
      expect_as_alone(harness.replies.at(RequestId(i)).completion(), requests[i], std::uint64_t(i));
    EXPECT_EQ(harness.generator.stats().n_preemptions > 0, expect_preemption);
    EXPECT_GT(runner.n_held_steps, 10);
  }
}

TEST(Generator, BatchedIsAsAlone) { expect_all_as_alone({}, false); }
TEST(Generator, OneSequenceAtATimeIsAsAlone) { expect_all_as_alone({.max_sequences = 1}, false); }
TEST(Generator, TinyChunksAreAsAlone) { expect_all_as_alone({.max_batch_tokens = 4}, false); }
TEST(Generator, ShortMixedStepsAreAsAlone) {
  expect_all_as_alone({.max_batch_tokens = 32, .max_mixed_tokens = 6}, false);
}
TEST(Generator, PreemptedIsAsAlone) {
  expect_all_as_alone({.n_kv_blocks = 20, .max_sequences = 8}, true);
}
TEST(Generator, WithoutPrefixCacheIsAsAlone) {
  expect_all_as_alone({.prefix_caching = false}, false);
}

// The same prompts again and again, longer and shorter, as turns of a chat are.
TEST(Generator, SharedPrefixesAreComputedOnceAndChangeNothing) {
  std::mt19937 random(3);
  std::vector<Request> requests;
  for (auto& request : drawn_requests(60, 9)) {
    const auto n_shared = std::size_t(random() % 25);
    request.prompt_ids.resize(n_shared + 1 + random() % 10);
    for (std::size_t t = 0; t < n_shared; ++t) request.prompt_ids[t] = TokenId(t * 7 % 50);
    for (std::size_t t = n_shared; t < request.prompt_ids.size(); ++t)
      request.prompt_ids[t] = TokenId(random() % FakeRunner::kVocab);
    requests.push_back(request);
  }
  std::int64_t n_computed[2];
  for (const bool prefix_caching : {false, true}) {
    FakeRunner runner({.works_beside_host = true, .prefix_caching = prefix_caching});
    Harness harness(runner);
    for (const auto& request : requests) harness.submit(request);
    harness.run();
    std::int64_t n_cached = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto& completion = harness.replies.at(RequestId(i)).completion();
      expect_as_alone(completion, requests[i], std::uint64_t(i));
      n_cached += completion.n_cached_tokens;
    }
    EXPECT_EQ(n_cached > 100, prefix_caching);
    EXPECT_EQ(harness.generator.stats().n_cached_tokens > 100, prefix_caching);
    n_computed[prefix_caching] = runner.n_computed_tokens;
  }
  EXPECT_LT(n_computed[1] + 100, n_computed[0]);
}

TEST(Generator, TheSecondOfTwoComputesOnlyTheRest) {
  FakeRunner runner({.max_batch_tokens = 64});
  Harness harness(runner);
  Request request{.prompt_ids = std::vector<TokenId>(41, 3), .max_tokens = 1};
  harness.submit(request);
  harness.run();
  EXPECT_EQ(runner.n_computed_tokens, 41);
  request.prompt_ids.back() = 4;
  harness.submit(request);
  harness.run();
  EXPECT_EQ(runner.n_computed_tokens, 42);
  EXPECT_EQ(harness.replies.at(1).completion().n_cached_tokens, 40);
  request.cache_salt = "another";
  harness.submit(request);
  harness.run();
  EXPECT_EQ(runner.n_computed_tokens, 42 + 41);
  EXPECT_EQ(harness.replies.at(2).completion().n_cached_tokens, 0);
}

// A token that makes a sequence's logits NaN, in some prompts and in some answers.
TEST(Generator, LogitsThatAreNotFiniteEndTheirRequestAlone) {
  for (const bool works_beside_host : {false, true}) {
    FakeRunner runner({.max_sequences = 8, .works_beside_host = works_beside_host});
    runner.odd_id = 17;
    Harness harness(runner);
    auto requests = drawn_requests(40, 7);
    for (auto& request : requests) request.n_answers = 1, request.constraint = {};
    for (const auto& request : requests) harness.submit(request);
    harness.run();
    int n_errors = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      auto expected = answer_alone(requests[i], 0, std::uint64_t(i));
      const auto& prompt = requests[i].prompt_ids;
      const bool is_odd_prompt = std::ranges::find(prompt, 17) != prompt.end();
      const auto odd = std::ranges::find(expected.ids, 17);
      // The token after it is the one that cannot be chosen.
      if (!expected.ids.empty() &&
          (is_odd_prompt || (odd != expected.ids.end() && odd + 1 != expected.ids.end()))) {
        expected.ids.erase(is_odd_prompt ? expected.ids.begin() : odd + 1, expected.ids.end());
        expected.finish_reason = FinishReason::error;
      }
      const auto& answer = harness.replies.at(RequestId(i)).completion().answers[0];
      EXPECT_EQ(answer.ids, expected.ids) << "request " << i;
      EXPECT_EQ(answer.finish_reason, expected.finish_reason) << "request " << i;
      EXPECT_EQ(answer.error.find("not finite") != std::string::npos,
                expected.finish_reason == FinishReason::error);
      n_errors += expected.finish_reason == FinishReason::error ? 1 : 0;
    }
    EXPECT_GT(n_errors, 3);
    EXPECT_LT(n_errors, 37);
  }
}

// What few ask for: the most answers, on a cache for one; nothing but the prompt's scores; a prompt
// that has none; a prompt that fills the context; seeds that wrap around.
TEST(Generator, ExtremesAreAsAlone) {
  const std::vector<TokenId> prompt{5, 6, 7, 8, 9};
  constexpr auto kLastSeed = std::numeric_limits<std::uint64_t>::max();
  const SamplingParams drawn{.temperature = 1, .seed = kLastSeed - 1};
  const std::vector<Request> requests{
      {.prompt_ids = prompt, .sampling = drawn, .n_answers = 128, .max_tokens = 7},
      {.prompt_ids = prompt, .n_answers = 3, .max_tokens = 0, .n_prompt_logprobs = 20},
      {.prompt_ids = prompt, .sampling = drawn, .n_answers = 5, .n_prompt_logprobs = 0},
      {.prompt_ids = {4}, .max_tokens = 0, .n_prompt_logprobs = 2},
      {.prompt_ids = {4}, .n_answers = 2, .max_tokens = 3, .n_prompt_logprobs = 2},
      {.prompt_ids = std::vector<TokenId>(FakeRunner::kContext, 3), .n_prompt_logprobs = 1},
      {.prompt_ids = prompt,
       .max_tokens = std::numeric_limits<std::int64_t>::max(),
       .min_tokens = std::numeric_limits<std::int64_t>::max(),
       .time_limit = std::chrono::milliseconds::max()}};
  for (const bool works_beside_host : {false, true}) {
    FakeRunner runner(
        {.n_kv_blocks = 16, .max_sequences = 3, .works_beside_host = works_beside_host});
    Harness harness(runner);
    for (const auto& request : requests) harness.submit(request);
    harness.run();
    for (std::size_t i = 0; i < requests.size(); ++i)
      expect_as_alone(harness.replies.at(RequestId(i)).completion(), requests[i], std::uint64_t(i));
  }
}

class SmallVocabRunner : public FakeRunner {
 public:
  using FakeRunner::FakeRunner;
  std::int64_t vocab_size() const override { return 3; }

 protected:
  std::int32_t choose(const Ids&, const SamplingRow& row, const Slot&) override {
    EXPECT_LE(row.n_top, 3);
    return 2;
  }
};

TEST(Generator, NoMoreOfTheLikeliestThanThereAre) {
  SmallVocabRunner runner(FakeOptions{});
  Harness harness(runner);
  harness.submit(
      {.prompt_ids = {0, 1, 2}, .max_tokens = 4, .n_logprobs = 20, .n_prompt_logprobs = 20});
  harness.run();
  const auto& completion = harness.replies.at(0).completion();
  ASSERT_EQ(completion.prompt_logprobs.size(), 2U);
  for (const auto& logprobs : completion.prompt_logprobs) EXPECT_EQ(logprobs.top.size(), 3U);
  ASSERT_EQ(completion.answers[0].logprobs.size(), 4U);
  for (const auto& logprobs : completion.answers[0].logprobs) EXPECT_EQ(logprobs.top.size(), 3U);
}

TEST(Generator, ContextEndsAtTheCacheWhereThatIsSmaller) {
  FakeRunner runner({.n_kv_blocks = 5});
  Harness harness(runner);
  EXPECT_EQ(runner.limits().max_sequence_tokens(), 5 * FakeRunner::kBlockTokens);
  harness.submit({.prompt_ids = {1, 2, 3}, .max_tokens = 1000, .ignore_eos = true});
  harness.run();
  const auto& answer = harness.replies.at(0).completion().answers[0];
  EXPECT_EQ(answer.ids.size(), 17U);
  EXPECT_EQ(answer.finish_reason, FinishReason::length);
}

TEST(Generator, NoTokensWantedOrNoRoomEndsAtOnce) {
  FakeRunner runner({});
  Harness harness(runner);
  harness.submit({.prompt_ids = {1}, .max_tokens = 0});
  harness.submit({.prompt_ids = std::vector<TokenId>(FakeRunner::kContext, 1)});
  int n_ends = 0;
  EXPECT_FALSE(harness.step([&](const Progress& progress) {
    EXPECT_EQ(progress.finish_reason, FinishReason::length);
    ++n_ends;
  }));
  EXPECT_EQ(n_ends, 2);
  EXPECT_EQ(runner.n_steps, 0);
  EXPECT_TRUE(harness.replies.at(0).completion().answers[0].ids.empty());
}

std::string error_of(Harness& harness, const Request& request) {
  try {
    harness.submit(request);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Generator, BadRequestsAreErrorsAndLeaveNoTrace) {
  FakeRunner runner({});
  Harness harness(runner);
  const auto mentions = [&](const Request& request, const std::string& text) {
    const std::string error = error_of(harness, request);
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
  mentions({.prompt_ids = {1}, .sampling = {.presence_penalty = INFINITY}}, "presence_penalty");
  mentions({.prompt_ids = {1}, .n_answers = 0}, "n_answers");
  mentions({.prompt_ids = {1}, .max_tokens = 3, .min_tokens = 4}, "min_tokens");
  mentions({.prompt_ids = {1}, .stop_ids = {97}}, "stop_ids");
  mentions({.prompt_ids = {1}, .n_logprobs = 21}, "n_logprobs");
  mentions({.prompt_ids = {1}, .n_prompt_logprobs = -1}, "n_prompt_logprobs");
  mentions({.prompt_ids = {1}, .logit_bias = {{5, NAN}}}, "logit_bias");
  mentions({.prompt_ids = {1}, .logit_bias = {{5, 1}, {5, 2}}}, "twice");
  mentions({.prompt_ids = {1}, .logit_bias = {{97, 1}}}, "logit_bias");
  mentions({.prompt_ids = {1}, .allowed_ids = {-2}}, "allowed_ids");
  mentions({.prompt_ids = {1}, .min_tokens = 1, .stop_ids = {4}, .allowed_ids = {4, kFakeEos}},
           "none can be chosen");
  EXPECT_FALSE(harness.generator.has_work());
  harness.generator.check_integrity();
  EXPECT_EQ(harness.submit({.prompt_ids = {1}, .max_tokens = 1}), 0);
  harness.run();
  EXPECT_EQ(harness.replies.at(0).completion().answers[0].ids.size(), 1U);
}

TEST(Generator, CancelEndsOneAndFreesItsBlocks) {
  for (const bool works_beside_host : {false, true}) {
    FakeRunner runner({.works_beside_host = works_beside_host});
    Harness harness(runner);
    const Request request{.prompt_ids = {5, 6}, .max_tokens = 20, .ignore_eos = true};
    const auto cancelled = harness.submit(request);
    const auto other = harness.submit(request);
    int n_tokens = 0;
    while (harness.step([&](const Progress& progress) {
      if (progress.request != cancelled) return;
      n_tokens += int(progress.ids.size());
      if (n_tokens == 3) {
        EXPECT_TRUE(harness.generator.cancel(cancelled));
      }
    }))
      harness.generator.check_integrity();
    const auto& answer = harness.replies.at(cancelled).completion().answers[0];
    EXPECT_EQ(answer.ids.size(), 3U);
    EXPECT_EQ(answer.finish_reason, FinishReason::cancelled);
    EXPECT_EQ(harness.replies.at(other).completion().answers[0].ids.size(), 20U);
    EXPECT_FALSE(harness.generator.cancel(cancelled));
    EXPECT_FALSE(harness.generator.cancel(12345));
    EXPECT_FALSE(harness.step());
    harness.generator.check_integrity();
  }
}

TEST(Generator, ATimeLimitEndsWithWhatThereIs) {
  FakeRunner runner({.max_sequences = 1});
  Harness harness(runner);
  const Request request{.prompt_ids = {5, 6}, .max_tokens = 60, .ignore_eos = true};
  auto limited = request;
  limited.time_limit = std::chrono::milliseconds(1000);
  // As submitted half a second, and an hour, before; the last one waits all the time.
  const auto now = Clock::now();
  const auto in_time = harness.generator.submit(limited, now);
  harness.replies.emplace(in_time, Reply(nullptr, limited, 60));
  const auto late = harness.generator.submit(limited, now - std::chrono::hours(1));
  harness.replies.emplace(late, Reply(nullptr, limited, 60));
  const auto unlimited = harness.submit(request);
  harness.run();
  const auto reason = [&](RequestId id) {
    return harness.replies.at(id).completion().answers[0].finish_reason;
  };
  EXPECT_EQ(reason(in_time), FinishReason::length);
  EXPECT_EQ(reason(late), FinishReason::time_limit);
  EXPECT_EQ(reason(unlimited), FinishReason::length);
}

TEST(Generator, SeedsRepeatAndDiffer) {
  FakeRunner runner({});
  const auto run = [&](std::optional<std::uint64_t> seed, std::int32_t n_answers) {
    Harness harness(runner);
    for (int i = 0; i < 2; ++i)
      harness.submit({.prompt_ids = {1, 2},
                      .sampling = {.temperature = 1.0F, .seed = seed},
                      .n_answers = n_answers,
                      .max_tokens = 20,
                      .ignore_eos = true});
    harness.run();
    std::vector<std::vector<TokenId>> ids;
    for (const auto& [id, reply] : harness.replies)
      for (const auto& answer : reply.completion().answers) ids.push_back(answer.ids);
    return ids;
  };
  const auto unseeded = run(std::nullopt, 1);
  EXPECT_NE(unseeded[0], unseeded[1]);
  EXPECT_EQ(unseeded, run(std::nullopt, 1));
  const auto seeded = run(0, 1);
  EXPECT_EQ(seeded[0], seeded[1]);
  EXPECT_EQ(seeded[0], unseeded[0]);
  EXPECT_NE(run(1, 1)[0], seeded[0]);
  // Answer i has the seed + i.
  const auto several = run(5, 3);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(several[i], run(5 + i, 1)[0]) << "answer " << i;
}

// A model that says a given text, whatever it is asked.
class ScriptedRunner : public FakeRunner {
 public:
  explicit ScriptedRunner(std::vector<TokenId> script)
      : FakeRunner({.works_beside_host = true}), script_(std::move(script)) {}
  std::int64_t vocab_size() const override { return 8192; }

 protected:
  std::int32_t choose(const Ids&, const SamplingRow& row, const Slot&) override {
    // What is queued ahead goes on past the end.
    return script_[std::min(std::size_t(row.n_generated), script_.size() - 1)];
  }

 private:
  std::vector<TokenId> script_;
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
    std::vector<TokenId> prompt_ids;
    Answer completion;
    std::vector<std::string> pieces;
  };

  static Said say(std::vector<TokenId> script, const std::vector<std::string>& stop,
                  bool ignore_eos = false) {
    const auto n_tokens = std::int64_t(script.size());
    ScriptedRunner runner(std::move(script));
    Harness harness(runner, tokenizer_.get(), {kDemoEos});
    const auto id = harness.submit(
        {.prompt = "x", .max_tokens = n_tokens, .stop = stop, .ignore_eos = ignore_eos});
    Said said;
    std::string streamed;
    while (harness.step([&](const Progress& progress) {
      said.pieces.emplace_back(progress.text);
      streamed += progress.text;
    }))
      harness.generator.check_integrity();
    const auto completion = harness.replies.at(id).take();
    said.prompt_ids = completion.prompt_ids;
    said.completion = completion.answers[0];
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
  EXPECT_EQ(said.prompt_ids, tokenizer_->encode("x"));
  EXPECT_EQ(said.prompt_ids.front(), 8183);
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
