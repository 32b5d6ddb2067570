// All that a request may ask of the choice of its tokens, on the whole model, against what follows
// in float64 from the model's own logits; in batches with requests that ask nothing of it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "device/every_device.h"
#include "engine/generator.h"
#include "engine/reply.h"
#include "engine/scoring.h"
#include "engine/session.h"
#include "null/scripted_matcher.h"

namespace nereid::engine {
namespace {

using Logits = std::vector<double>;  // [V]

// Logits after every prefix of a text that was asked for, computed in one pass each.
class Reference {
 public:
  explicit Reference(Session& session) : session_(session) {}

  // [T, V]: after each token.
  std::vector<Logits> logits(std::span<const TokenId> ids) {
    std::vector<Logits> rows(ids.size());
    const auto n_vocab = std::size_t(session_.runner().vocab_size());
    score(session_.runner(), ids, [&](std::int64_t first, std::span<const float> values) {
      for (std::size_t i = 0; i * n_vocab < values.size(); ++i) {
        const auto row = values.subspan(i * n_vocab, n_vocab);
        rows[std::size_t(first) + i] = {row.begin(), row.end()};
      }
    });
    return rows;
  }

 private:
  Session& session_;
};

Logits log_softmax(const Logits& x) {
  const double largest = *std::ranges::max_element(x);
  double sum = 0;
  for (const double value : x) sum += std::exp(value - largest);
  Logits y;
  for (const double value : x) y.push_back(value - largest - std::log(sum));
  return y;
}

// In the order that request.h and kernels/adjust_logits.py say.
Logits adjusted(Logits x, const Request& request, std::span<const TokenId> generated,
                const std::set<TokenId>& ends) {
  for (const auto& [id, bias] : request.logit_bias) x[std::size_t(id)] += double(bias);
  std::map<TokenId, int> counts;
  for (const TokenId id : generated) ++counts[id];
  std::set<TokenId> seen(request.prompt_ids.begin(), request.prompt_ids.end());
  seen.insert(generated.begin(), generated.end());
  const auto& params = request.sampling;
  for (const TokenId id : seen) {
    auto& value = x[std::size_t(id)];
    value = value > 0 ? value / double(params.repetition_penalty)
                      : value * double(params.repetition_penalty);
  }
  for (const auto& [id, n] : counts)
    x[std::size_t(id)] -= n * double(params.frequency_penalty) + double(params.presence_penalty);
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  if (std::ssize(generated) < request.min_tokens)
    for (const TokenId id : ends) x[std::size_t(id)] = kNever;
  if (!request.allowed_ids.empty())
    for (std::size_t id = 0; id < x.size(); ++id)
      if (std::ranges::find(request.allowed_ids, TokenId(id)) == request.allowed_ids.end())
        x[id] = kNever;
  return x;
}

Request drawn(std::mt19937& random, std::int64_t n_vocab) {
  const auto token = [&] { return TokenId(random() % std::uint64_t(n_vocab)); };
  const auto real = [&](double low, double high) {
    return float(low + (high - low) * double(random() % 1000) / 1000);
  };
  Request request;
  request.prompt_ids.resize(1 + random() % 90);
  for (auto& id : request.prompt_ids) id = token();
  request.max_tokens = 1 + random() % 24;
  request.sampling.seed = random();
  if (random() % 3 == 0) request.sampling.temperature = real(0.3, 1.5);
  if (random() % 2 == 0) request.sampling.repetition_penalty = real(0.5, 2);
  if (random() % 2 == 0) request.sampling.presence_penalty = real(-2, 2);
  if (random() % 2 == 0) request.sampling.frequency_penalty = real(-2, 2);
  if (random() % 3 == 0) request.n_logprobs = random() % (kMaxLogprobs + 1);
  if (random() % 3 == 0) request.n_prompt_logprobs = random() % (kMaxLogprobs + 1);
  if (random() % 3 == 0)
    for (std::set<TokenId> ids{token(), token(), token(), token(), token()}; const auto id : ids)
      request.logit_bias.push_back({id, real(-20, 20)});
  if (random() % 3 == 0) request.stop_ids = {token(), token()};
  if (random() % 3 == 0) request.min_tokens = random() % (std::uint64_t(request.max_tokens) + 1);
  if (random() % 4 == 0)
    for (int i = 0; i < 50; ++i) request.allowed_ids.push_back(token());
  if (random() % 4 == 0) request.n_answers = 3;
  return request;
}

std::map<RequestId, Completion> run(Generator& generator, const std::vector<Request>& requests) {
  std::map<RequestId, Reply> replies;
  for (const auto& request : requests)
    replies.emplace(generator.submit(request, Clock::now(), scripted_matchers(request.constraint)),
                    Reply(nullptr, request, 1 << 20));
  while (generator.step([&](const AnswerEvent& event) {
    replies.at(event.request).add(event);
    return false;
  })) {
  }
  generator.check_integrity();
  std::map<RequestId, Completion> completions;
  for (auto& [id, reply] : replies) completions.emplace(id, reply.take());
  return completions;
}

class RequestFields : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { device::require_device(GetParam()); }

  Options options() const {
    return {.model_dir = std::filesystem::path(NEREID_SOURCE_DIR) / "models" / "demo",
            .device = GetParam(),
            .n_threads = 2,
            .max_context_tokens = 256,
            .max_sequences = 8};
  }
  // Logits of another batch, other kernels and another place in it: what rounding may change.
  double tolerance() const { return GetParam() == "cuda" ? 0.05 : 5e-3; }
  double logprob_tolerance() const { return GetParam() == "cuda" ? 0.05 : 5e-3; }

  void expect_logprobs(const std::vector<TokenLogprobs>& got, std::span<const Logits> logits,
                       std::span<const TokenId> chosen, std::int32_t n_top) {
    ASSERT_EQ(got.size(), chosen.size());
    for (std::size_t t = 0; t < got.size(); ++t) {
      const auto expected = log_softmax(logits[t]);
      EXPECT_EQ(got[t].chosen.id, chosen[t]);
      EXPECT_NEAR(double(got[t].chosen.logprob), expected[std::size_t(chosen[t])],
                  logprob_tolerance());
      auto sorted = expected;
      std::ranges::sort(sorted, std::greater());
      ASSERT_EQ(got[t].top.size(), std::size_t(n_top));
      std::set<TokenId> ids;
      for (std::size_t k = 0; k < got[t].top.size(); ++k) {
        const auto& [id, logprob] = got[t].top[k];
        ids.insert(id);
        EXPECT_NEAR(double(logprob), sorted[k], logprob_tolerance());
        EXPECT_NEAR(double(logprob), expected[std::size_t(id)], logprob_tolerance());
      }
      EXPECT_EQ(ids.size(), got[t].top.size()) << "a token is named twice";
    }
  }
};

// NEREID_REQUEST_ROUNDS: how many batches.
int n_rounds() {
  const char* text = std::getenv("NEREID_REQUEST_ROUNDS");
  return text == nullptr ? 1 : std::atoi(text);
}

TEST_P(RequestFields, AreAsTheLogitsSay) {
  Session session(options());
  Reference reference(session);
  Generator generator(session.runner(), session.eos_ids());
  const auto n_vocab = session.runner().vocab_size();
  int n_greedy = 0, n_near_ties = 0;
  for (int round = 0; round < n_rounds(); ++round) {
    std::mt19937 random(unsigned(round) + 1);
    std::vector<Request> requests;
    for (int i = 0; i < 14; ++i) requests.push_back(drawn(random, n_vocab));
    RequestId first = -1;
    for (const auto& [id, completion] : run(generator, requests)) {
      if (first < 0) first = id;
      SCOPED_TRACE(testing::Message() << "round " << round << ", request " << id - first);
      const Request& request = requests[std::size_t(id - first)];
      std::set<TokenId> ends(request.stop_ids.begin(), request.stop_ids.end());
      ends.insert(session.eos_ids().begin(), session.eos_ids().end());
      for (const auto& answer : completion.answers) {
        ASSERT_TRUE(answer.error.empty()) << answer.error;
        auto text = request.prompt_ids;
        const auto n_prompt = text.size();
        text.insert(text.end(), answer.ids.begin(), answer.ids.end());
        const auto logits = reference.logits(text);
        const auto of_answer = std::span(logits).subspan(n_prompt - 1, answer.ids.size());
        for (std::size_t t = 0; t < answer.ids.size(); ++t) {
          const auto chosen = answer.ids[t];
          const auto x = adjusted(of_answer[t], request, std::span(answer.ids).first(t), ends);
          EXPECT_TRUE(std::isfinite(x[std::size_t(chosen)])) << "token " << t << " is forbidden";
          EXPECT_EQ(ends.contains(chosen),
                    t + 1 == answer.ids.size() && answer.finish_reason == FinishReason::stop);
          if (request.sampling.temperature > 0) continue;
          ++n_greedy;
          const auto best = TokenId(std::ranges::max_element(x) - x.begin());
          if (chosen == best) continue;
          ++n_near_ties;
          EXPECT_NEAR(x[std::size_t(chosen)], x[std::size_t(best)], tolerance()) << "token " << t;
        }
        if (request.n_logprobs)
          expect_logprobs(answer.logprobs, of_answer, answer.ids, *request.n_logprobs);
        if (request.n_prompt_logprobs && &answer == &completion.answers[0])
          expect_logprobs(completion.prompt_logprobs, std::span(logits).first(n_prompt - 1),
                          std::span(request.prompt_ids).subspan(1), *request.n_prompt_logprobs);
      }
    }
  }
  EXPECT_GT(n_greedy, 50);
  EXPECT_LE(n_near_ties * 50, n_greedy);
}

TEST_P(RequestFields, ChangeNothingForOthers) {
  auto exact = options();
  exact.batch_invariant = true;
  Session session(exact);
  Generator generator(session.runner(), session.eos_ids());
  std::mt19937 random(77);
  std::vector<Request> plain, mixed;
  for (int i = 0; i < 12; ++i) {
    Request request{.prompt_ids = std::vector<TokenId>(1 + random() % 60, 0),
                    .sampling = {.temperature = i % 2 == 0 ? 0.0F : 0.9F, .seed = random()},
                    .max_tokens = 24};
    for (auto& id : request.prompt_ids)
      id = TokenId(random() % std::uint64_t(session.runner().vocab_size()));
    plain.push_back(request);
    mixed.push_back(request);
    mixed.push_back(drawn(random, session.runner().vocab_size()));
  }
  const auto alone = run(generator, plain);
  const auto among = run(generator, mixed);
  for (std::size_t i = 0; i < plain.size(); ++i)
    EXPECT_EQ(std::next(among.begin(), std::ptrdiff_t(2 * i))->second.answers[0].ids,
              std::next(alone.begin(), std::ptrdiff_t(i))->second.answers[0].ids)
        << "request " << i;
}

TEST_P(RequestFields, SeveralAnswersAreSeveralRequests) {
  auto exact = options();
  exact.batch_invariant = true;
  Session session(exact);
  Generator generator(session.runner(), session.eos_ids());
  std::mt19937 random(78);
  for (int i = 0; i < 4; ++i) {
    auto request = drawn(random, session.runner().vocab_size());
    request.sampling.temperature = 0.9F;
    request.sampling.seed = 1000 + i;
    request.n_answers = 4;
    const auto together = run(generator, {request}).begin()->second;
    std::vector<Request> single(4, request);
    for (std::size_t a = 0; a < 4; ++a) {
      single[a].n_answers = 1;
      *single[a].sampling.seed += a;
    }
    std::size_t a = 0;
    for (const auto& [id, completion] : run(generator, single))
      EXPECT_EQ(together.answers[a++].ids, completion.answers[0].ids) << "answer " << a;
  }
}

// Constrained answers beside others: every token is one that the rules allow where it stands, and
// the likeliest of those where it is not drawn; the others are as without them.
TEST_P(RequestFields, AConstraintAllowsWhatItSays) {
  auto exact = options();
  exact.batch_invariant = true;
  Session session(exact);
  Reference reference(session);
  Generator generator(session.runner(), session.eos_ids());
  std::mt19937 random(79);
  std::vector<Request> requests;
  for (int i = 0; i < 16; ++i) {
    auto request = drawn(random, session.runner().vocab_size());
    request.n_answers = 1;
    request.allowed_ids.clear();
    request.stop_ids.clear();
    if (i % 3 != 0) request.constraint = scripted(random());
    requests.push_back(request);
  }
  auto others = requests;
  std::erase_if(others, [](const Request& request) {
    return request.constraint.kind != Constraint::Kind::none;
  });
  const auto alone = run(generator, others);
  auto other = alone.begin();
  int n_chosen = 0, n_greedy = 0, n_near_ties = 0;
  for (const auto& [id, completion] : run(generator, requests)) {
    const auto& request = requests[std::size_t(id) - others.size()];
    const auto& ids = completion.answers[0].ids;
    SCOPED_TRACE(testing::Message() << "request " << id);
    if (request.constraint.kind == Constraint::Kind::none) {
      EXPECT_EQ(ids, (other++)->second.answers[0].ids);
      continue;
    }
    auto text = request.prompt_ids;
    text.insert(text.end(), ids.begin(), ids.end());
    const auto logits = reference.logits(text);
    const std::set<TokenId> ends(session.eos_ids().begin(), session.eos_ids().end());
    ScriptedMatcher matcher(std::stoull(request.constraint.text));
    for (std::size_t t = 0; t < ids.size(); ++t) {
      auto x = adjusted(logits[request.prompt_ids.size() - 1 + t], request, std::span(ids).first(t),
                        ends);
      for (std::size_t v = 0; v < x.size(); ++v)
        if (ends.contains(TokenId(v)) ? !matcher.is_complete() : !matcher.allows(TokenId(v)))
          x[v] = -std::numeric_limits<double>::infinity();
      ++n_chosen;
      ASSERT_TRUE(std::isfinite(x[std::size_t(ids[t])])) << "token " << t << " is forbidden";
      if (ends.contains(ids[t])) break;
      ASSERT_TRUE(matcher.accept(ids[t]));
      if (request.sampling.temperature > 0) continue;
      ++n_greedy;
      const auto best = std::size_t(std::ranges::max_element(x) - x.begin());
      n_near_ties += std::size_t(ids[t]) != best;
      EXPECT_NEAR(x[std::size_t(ids[t])], x[best], tolerance()) << "token " << t;
    }
  }
  EXPECT_GT(n_chosen, 50);
  EXPECT_LE(n_near_ties * 10, n_greedy);
}

INSTANTIATE_TEST_SUITE_P(Devices, RequestFields, testing::Values("cpu", "cuda"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace nereid::engine
