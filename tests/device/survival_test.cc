// The real thing survives: launches that fail, wherever in a step, and callbacks that throw cost
// the requests they belong to and nothing else.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "device/every_device.h"
#include "device/registry.h"
#include "engine/generator.h"
#include "engine/reply.h"
#include "engine/session.h"
#include "nereid/engine.h"
#include "null/failing_device.h"

namespace nereid {
namespace {

constexpr int kNRequests = 8;

const std::filesystem::path kDemo = std::filesystem::path(NEREID_SOURCE_DIR) / "models" / "demo";

// Different prompts and samplers; four run at a time.
std::vector<Request> some_requests() {
  std::vector<Request> requests;
  for (int i = 0; i < kNRequests; ++i) {
    Request request{.prompt_ids = {}, .max_tokens = 3 + i % 3, .ignore_eos = true};
    for (int t = 0; t < 3 + 40 * (i % 3); ++t) request.prompt_ids.push_back(20 + 7 * t + i);
    if (i % 2 == 1) request.sampling.temperature = 0.8F;
    if (i % 4 == 3) request.sampling.repetition_penalty = 1.2F;
    request.sampling.seed = std::uint64_t(i);
    requests.push_back(request);
  }
  return requests;
}

class Survival : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { device::require_device(GetParam()); }

  Options options() const {
    return {.model_dir = kDemo,
            .device = GetParam(),
            .n_threads = 2,
            .max_context_tokens = 256,
            .max_batch_tokens = 128,
            .max_mixed_tokens = 64,
            .max_sequences = 4};
  }
};

class Collector {
 public:
  explicit Collector(engine::Generator& generator) : generator_(generator) {
    for (const auto& request : some_requests())
      replies.emplace(generator.submit(request), engine::Reply(nullptr, request, 256));
  }
  bool step() {
    return generator_.step([&](const engine::AnswerEvent& event) {
      replies.at(event.request).add(event);
      return false;
    });
  }
  std::map<RequestId, engine::Reply> replies;

 private:
  engine::Generator& generator_;
};

TEST_P(Survival, ALaunchThatFailsEndsWhatWasInItsStep) {
  device::FailingDevice device(device::open_device({.name = GetParam(), .n_threads = 2}));
  const auto config = model::ModelConfig::load(kDemo);
  const auto runner = engine::Runner::create(device, config, options());
  engine::Generator generator(*runner, {});
  const auto run = [&] {
    Collector collector(generator);
    while (collector.step()) generator.check_integrity();
    generator.check_integrity();
    std::vector<Answer> answers;
    for (auto& [id, reply] : collector.replies) answers.push_back(reply.take().answers[0]);
    return answers;
  };
  const auto expected = run();
  for (const auto& answer : expected) ASSERT_EQ(answer.finish_reason, FinishReason::length);

  // What three steps launch.
  std::int64_t n_launches = 0;
  {
    Collector collector(generator);
    const auto before = device.n_launches;
    for (int i = 0; i < 3; ++i) collector.step();
    n_launches = device.n_launches - before;
    while (collector.step()) {
    }
  }
  ASSERT_GT(n_launches, 3);
  // Each of them is for the tests without a device.
  constexpr std::int64_t kStride = 7;
  for (std::int64_t n = 0; n < n_launches; n += kStride) {
    SCOPED_TRACE(testing::Message() << "launch " << n << " of " << n_launches);
    device.fail_at = device.n_launches + n;
    const auto answers = run();
    int n_failed = 0;
    for (int i = 0; i < kNRequests; ++i) {
      const auto& answer = answers[std::size_t(i)];
      const auto& whole = expected[std::size_t(i)].ids;
      if (answer.finish_reason == FinishReason::error) {
        ++n_failed;
        EXPECT_NE(answer.error.find("as the test asked"), std::string::npos) << answer.error;
        ASSERT_LT(answer.ids.size(), whole.size());
        EXPECT_TRUE(std::equal(answer.ids.begin(), answer.ids.end(), whole.begin()));
      } else {
        EXPECT_EQ(answer.ids, whole) << "request " << i;
      }
    }
    EXPECT_GE(n_failed, 1);
    EXPECT_LE(n_failed, 4);
  }
  const auto again = run();
  for (int i = 0; i < kNRequests; ++i)
    EXPECT_EQ(again[std::size_t(i)].ids, expected[std::size_t(i)].ids) << "request " << i;
  EXPECT_TRUE(generator.broken().empty());
}

TEST_P(Survival, ACallbackThatThrowsCostsItsOwnRequest) {
  Engine engine(options());
  const auto requests = some_requests();
  const auto expected = engine.run(requests);
  std::size_t n_calls = 0;
  engine.run(requests, [&](const Progress&) { ++n_calls; });
  for (std::size_t position = 0; position < n_calls; ++position) {
    SCOPED_TRACE(testing::Message() << "call " << position);
    std::size_t n = 0;
    RequestId first = -1, thrown_for = -1;
    std::vector<RequestId> ids;
    for (const auto& request : requests) ids.push_back(engine.submit(request));
    first = ids.front();
    while (engine.step([&](const Progress& progress) {
      if (n++ != position) return;
      thrown_for = progress.request;
      if (position % 2 == 0) throw std::runtime_error("of the caller");
      throw 17;
    })) {
    }
    for (const RequestId id : ids) {
      const auto index = std::size_t(id - first);
      const auto answer = engine.take(id).answers[0];
      if (id == thrown_for) {
        EXPECT_EQ(answer.finish_reason, FinishReason::error);
        EXPECT_NE(answer.error.find("callback threw"), std::string::npos);
      } else {
        EXPECT_EQ(answer.ids, expected[index].answers[0].ids) << "request " << index;
      }
    }
  }
}

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::internal;
}

TEST_P(Survival, ACallbackMayCancelAndNothingElse) {
  Engine engine(options());
  const Request request{.prompt_ids = {5, 6}, .n_answers = 2, .max_tokens = 20, .ignore_eos = true};
  const auto expected = engine.run({&request, 1})[0];
  const auto cancelled = engine.submit(request);
  const auto other = engine.submit(request);
  int n_calls = 0;
  while (engine.step([&](const Progress& progress) {
    EXPECT_EQ(code_of([&] { engine.submit(request); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([&] { engine.step(); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([&] { engine.take(other); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([&] { engine.run({&request, 1}); }), ErrorCode::invalid_argument);
    if (progress.request == cancelled && ++n_calls == 3) engine.cancel(cancelled);
  })) {
  }
  for (const auto& answer : engine.take(cancelled).answers)
    EXPECT_EQ(answer.finish_reason, FinishReason::cancelled);
  const auto got = engine.take(other);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(got.answers[i].ids, expected.answers[i].ids);
}

TEST_P(Survival, WrongIdsThrow) {
  Engine engine(options());
  EXPECT_EQ(code_of([&] { engine.take(0); }), ErrorCode::not_found);
  EXPECT_EQ(code_of([&] { engine.cancel(7); }), ErrorCode::not_found);
  const auto id = engine.submit({.prompt_ids = {5}, .max_tokens = 2});
  EXPECT_EQ(code_of([&] { engine.take(id); }), ErrorCode::invalid_argument);
  while (engine.step()) {
  }
  engine.cancel(id);  // it is finished: nothing changes
  EXPECT_EQ(engine.take(id).answers[0].finish_reason, FinishReason::length);
  EXPECT_EQ(code_of([&] { engine.take(id); }), ErrorCode::not_found);
  EXPECT_EQ(code_of([&] { engine.cancel(id); }), ErrorCode::not_found);
}

INSTANTIATE_TEST_SUITE_P(Devices, Survival, testing::Values("cpu", "cuda"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace nereid
