// Goal: requests drawn at random over all that a request may ask for, and what a FakeRunner answers
// to each alone, token by token.
// Non-goal: text.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "engine/token_bias.h"
#include "null/fake_runner.h"
#include "null/scripted_matcher.h"

namespace nereid::engine {

inline constexpr TokenId kFakeEos = 11;

inline Request drawn_request(std::mt19937& random) {
  const auto token = [&] { return TokenId(random() % FakeRunner::kVocab); };
  Request request;
  request.prompt_ids.resize(1 + random() % 30);
  for (auto& id : request.prompt_ids) id = token();
  request.max_tokens = 1 + random() % 60;
  request.ignore_eos = random() % 2 == 0;
  if (random() % 3 == 0) request.sampling.temperature = 0.7F;
  if (random() % 3 == 0) request.sampling.repetition_penalty = 1.2F;
  if (random() % 5 == 0) request.sampling.presence_penalty = 0.5F;
  if (random() % 4 == 0) request.sampling.seed = random();
  if (random() % 5 == 0) request.n_answers = 1 + random() % 3;
  if (random() % 4 == 0) request.min_tokens = random() % (request.max_tokens + 1);
  if (random() % 4 == 0) request.stop_ids = {token(), token()};
  if (random() % 6 == 0) request.n_logprobs = random() % (kMaxLogprobs + 1);
  if (random() % 6 == 0) request.n_prompt_logprobs = random() % (kMaxLogprobs + 1);
  if (random() % 6 == 0) request.logit_bias = {{kFakeEos, 3.0F}, {TokenId(50 + random() % 40), -1}};
  if (random() % 6 == 0)
    for (int i = 0; i < 12; ++i) request.allowed_ids.push_back(token());
  // One that may be chosen at any time.
  if (!request.allowed_ids.empty()) request.allowed_ids.push_back(request.stop_ids.empty() ? 1 : 2);
  std::erase(request.stop_ids, 2);
  if (random() % 3 == 0) request.constraint = scripted(random());
  return request;
}

inline std::vector<Request> drawn_requests(int n_requests, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Request> requests;
  for (int i = 0; i < n_requests; ++i) requests.push_back(drawn_request(random));
  return requests;
}

inline TokenLogprobs logprobs_alone(const std::vector<TokenId>& context, TokenId chosen,
                                    std::int32_t n_top) {
  TokenLogprobs logprobs{.chosen = {chosen, FakeRunner::logprob(context, chosen)}, .top = {}};
  for (std::int32_t i = 0; i < n_top; ++i) {
    const auto id = FakeRunner::top_id(context, i);
    logprobs.top.push_back({id, FakeRunner::logprob(context, id)});
  }
  return logprobs;
}

// What a constrained answer's next token may be.
inline std::vector<TokenId> allowed_alone(const Request& request, const ScriptedMatcher& matcher,
                                          const std::vector<TokenId>& end_ids, std::int64_t n) {
  std::vector<TokenId> allowed;
  for (TokenId id = 0; id < FakeRunner::kVocab; ++id) {
    bool is_allowed = matcher.allows(id) && id != kFakeEos;
    if (std::ranges::find(end_ids, id) != end_ids.end())
      is_allowed = matcher.is_complete() && n >= request.min_tokens;
    if (!request.allowed_ids.empty())
      is_allowed &= std::ranges::find(request.allowed_ids, id) != request.allowed_ids.end();
    if (is_allowed) allowed.push_back(id);
  }
  return allowed;
}

// The reference: one sequence, the whole context each time.
inline Answer answer_alone(const Request& request, std::int32_t index, std::uint64_t default_seed) {
  std::vector<TokenId> context = request.prompt_ids;
  Answer answer;
  answer.finish_reason = FinishReason::length;
  auto end_ids = request.stop_ids;
  if (!request.ignore_eos) end_ids.push_back(kFakeEos);
  const auto biases = bias_rows(request, end_ids);
  const bool is_constrained = request.constraint.kind != Constraint::Kind::none;
  ScriptedMatcher matcher(is_constrained ? std::stoull(request.constraint.text) : 0);
  while (std::int64_t(answer.ids.size()) < request.max_tokens &&
         std::int64_t(context.size()) < FakeRunner::kContext) {
    SamplingRow row;
    row.params = request.sampling;
    row.seed = request.sampling.seed.value_or(default_seed) + std::uint64_t(index);
    row.n_generated = std::int32_t(answer.ids.size());
    auto allowed = request.allowed_ids;
    if (is_constrained) {
      allowed = allowed_alone(request, matcher, end_ids, std::ssize(answer.ids));
      if (allowed.empty()) {
        answer.finish_reason = matcher.is_complete() ? FinishReason::stop : FinishReason::error;
        break;
      }
    }
    const auto id = FakeRunner::next_id(context, row, biases, allowed);
    if (request.n_logprobs)
      answer.logprobs.push_back(logprobs_alone(context, id, *request.n_logprobs));
    answer.ids.push_back(id);
    context.push_back(id);
    const bool is_end = std::ranges::find(end_ids, id) != end_ids.end();
    if (is_constrained && !is_end) {
      EXPECT_TRUE(matcher.accept(id));
    }
    if (is_end || (is_constrained && matcher.is_finished())) {
      answer.finish_reason = FinishReason::stop;
      break;
    }
  }
  return answer;
}

inline void expect_same(const std::vector<TokenLogprobs>& got,
                        const std::vector<TokenLogprobs>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].chosen.id, expected[i].chosen.id);
    EXPECT_EQ(got[i].chosen.logprob, expected[i].chosen.logprob);
    ASSERT_EQ(got[i].top.size(), expected[i].top.size());
    for (std::size_t k = 0; k < got[i].top.size(); ++k) {
      EXPECT_EQ(got[i].top[k].id, expected[i].top[k].id);
      EXPECT_EQ(got[i].top[k].logprob, expected[i].top[k].logprob);
    }
  }
}

inline void expect_as_alone(const Completion& completion, const Request& request,
                            std::uint64_t default_seed) {
  SCOPED_TRACE(testing::Message() << "request " << default_seed);
  EXPECT_EQ(completion.prompt_ids, request.prompt_ids);
  ASSERT_EQ(completion.answers.size(), std::size_t(request.n_answers));
  for (std::int32_t i = 0; i < request.n_answers; ++i) {
    const auto expected = answer_alone(request, i, default_seed);
    const auto& answer = completion.answers[std::size_t(i)];
    EXPECT_EQ(answer.ids, expected.ids) << "answer " << i;
    EXPECT_EQ(answer.finish_reason, expected.finish_reason) << answer.error;
    expect_same(answer.logprobs, expected.logprobs);
  }
  std::vector<TokenLogprobs> prompt;
  const auto& ids = request.prompt_ids;
  for (std::size_t t = 1; request.n_prompt_logprobs && t < ids.size(); ++t)
    prompt.push_back(logprobs_alone({ids.begin(), ids.begin() + std::ptrdiff_t(t)}, ids[t],
                                    *request.n_prompt_logprobs));
  expect_same(completion.prompt_logprobs, prompt);
}

}  // namespace nereid::engine
