// One model on several devices that share the processor: a launch that fails or a device that
// stands still on one of them costs the requests of its step, on all of them, and nothing else.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <latch>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "device/registry.h"
#include "engine/generator.h"
#include "engine/reply.h"
#include "engine/runner.h"
#include "null/failing_device.h"

namespace nereid {
namespace {

const std::filesystem::path kDemo = std::filesystem::path(NEREID_SOURCE_DIR) / "models" / "demo";

class Ranks : public testing::Test {
 protected:
  void open(int n_ranks, Options options = {}) {
    options.model_dir = kDemo;
    options.max_context_tokens = 256;
    options.max_batch_tokens = 128;
    options.max_mixed_tokens = 64;
    options.max_sequences = 4;
    std::vector<device::Device*> devices;
    for (auto& device : device::open_devices({"cpu:" + std::to_string(n_ranks), 2})) {
      devices_.push_back(std::make_unique<device::FailingDevice>(std::move(device)));
      devices.push_back(devices_.back().get());
    }
    runner_ = engine::Runner::create(devices, model::ModelConfig::load(kDemo), options);
    generator_ = std::make_unique<engine::Generator>(*runner_, std::vector<TokenId>());
  }

  // Different prompts and samplers.
  std::vector<Answer> run() {
    std::map<RequestId, engine::Reply> replies;
    for (int i = 0; i < kNRequests; ++i) {
      Request request{.prompt_ids = {}, .max_tokens = 3 + i % 3, .ignore_eos = true};
      for (int t = 0; t < 3 + 40 * (i % 3); ++t) request.prompt_ids.push_back(20 + 7 * t + i);
      if (i % 2 == 1) request.sampling.temperature = 0.8F;
      if (i % 4 == 3) request.sampling.repetition_penalty = 1.2F;
      request.sampling.seed = std::uint64_t(i);
      replies.emplace(generator_->submit(request), engine::Reply(nullptr, request, 256));
    }
    while (generator_->step([&](const engine::AnswerEvent& event) {
      replies.at(event.request).add(event);
      return false;
    }))
      generator_->check_integrity();
    generator_->check_integrity();
    std::vector<Answer> answers;
    for (auto& [id, reply] : replies) answers.push_back(reply.take().answers[0]);
    return answers;
  }

  static constexpr int kNRequests = 6;
  std::vector<std::unique_ptr<device::FailingDevice>> devices_;
  std::unique_ptr<engine::Runner> runner_;
  std::unique_ptr<engine::Generator> generator_;
};

void expect_same(const std::vector<Answer>& got, const std::vector<Answer>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(got[i].ids, expected[i].ids) << "request " << i << ": " << got[i].error;
}

int n_failed(const std::vector<Answer>& answers, const std::string& with) {
  int n = 0;
  for (const auto& answer : answers)
    if (answer.finish_reason == FinishReason::error) {
      ++n;
      EXPECT_NE(answer.error.find(with), std::string::npos) << answer.error;
    }
  return n;
}

TEST_F(Ranks, ALaunchThatFailsOnOneEndsWhatWasInItsStep) {
  open(2);
  const auto expected = run();
  for (const auto& answer : expected) ASSERT_EQ(answer.finish_reason, FinishReason::length);
  const auto before = devices_[1]->n_launches;
  expect_same(run(), expected);
  const auto n_launches = devices_[1]->n_launches - before;
  constexpr std::int64_t kTimes = 12;
  for (std::int64_t i = 0; i < kTimes; ++i) {
    const auto rank = std::size_t(i % 2);
    const auto n = n_launches * i / kTimes + i % 5;
    SCOPED_TRACE(testing::Message() << "launch " << n << " of " << n_launches << " on " << rank);
    devices_[rank]->fail_at = devices_[rank]->n_launches + n;
    const auto answers = run();
    EXPECT_GE(n_failed(answers, "rank " + std::to_string(rank) + " (cpu): launch"), 1);
    EXPECT_LE(n_failed(answers, "as the test asked"), 4);
  }
  expect_same(run(), expected);
  EXPECT_TRUE(generator_->broken().empty());
}

TEST_F(Ranks, OneThatComesBackLateCostsItsStep) {
  open(2, {.rank_deadline_s = 4.0});
  const auto expected = run();
  const auto late_at = devices_[1]->n_launches + 40;
  devices_[1]->before_launch = [&](std::int64_t n) {
    if (n == late_at) std::this_thread::sleep_for(std::chrono::milliseconds(6000));
  };
  EXPECT_GE(n_failed(run(), "no progress in a step for 4 s"), 1);
  expect_same(run(), expected);
}

TEST_F(Ranks, OneThatStandsStillEndsAllAndNothingHangs) {
  open(2, {.rank_deadline_s = 4.0});
  run();
  // Its waiter may still look at it when it is counted down.
  const auto released = std::make_shared<std::latch>(1);
  const auto stall_at = devices_[1]->n_launches + 40;
  devices_[1]->before_launch = [released, stall_at](std::int64_t n) {
    if (n == stall_at) released->wait();
  };
  EXPECT_GE(n_failed(run(), "rank 1 (cpu)"), 1);
  EXPECT_NE(generator_->broken().find("rank 1 (cpu) did not come back"), std::string::npos)
      << generator_->broken();
  released->count_down();
}

TEST_F(Ranks, BitsAreComparedWhereThatIsAsked) {
  open(2, {.check_ranks = true});
  const auto expected = run();
  EXPECT_EQ(n_failed(expected, ""), 0);
  std::atomic<int> n = 0;
  devices_[1]->on_download = [&](std::span<std::byte> bytes) {
    if (n++ == 7) bytes[0] ^= std::byte{1};
  };
  EXPECT_GE(n_failed(run(), "rank 0 (cpu) and rank 1 (cpu) differ after exchange"), 1);
  devices_[1]->on_download = {};
  expect_same(run(), expected);
}

TEST_F(Ranks, AModelThatTheyDoNotDivideIsRefused) {
  try {
    open(5);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("5 devices do not divide"), std::string::npos)
        << error.what();
  }
}

TEST_F(Ranks, OneThatCannotBeSetUpEndsTheOthers) {
  Options options;
  options.n_kv_blocks = 1 << 30;
  EXPECT_THROW(open(2, options), Error);
}

}  // namespace
}  // namespace nereid
