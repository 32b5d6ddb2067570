// The whole way of a decoding step in graph mode without a GPU: runner and generator over the cuda
// device over the driver stand-in, whose kernels are a model of the tests' own.

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"
#include "engine/generator.h"
#include "engine/runner.h"
#include "null/cuda_driver_stand_in.h"
#include "null/failing_device.h"
#include "null/scripted_matcher.h"
#include "null/stand_in_model.h"

namespace nereid::engine {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class GraphModeTest : public testing::Test {
 protected:
  GraphModeTest() {
    library_ = ::dlopen(NEREID_CUDA_DRIVER_STAND_IN, RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw std::runtime_error(::dlerror());
    driver_ =
        reinterpret_cast<cuda::DriverStandInEntry>(::dlsym(library_, cuda::kDriverStandInEntry))();
    driver_->reset();
    driver_->on_launch = [this](const cuda::StandInLaunch& launch) { model_.run(launch); };
  }
  ~GraphModeTest() override {
    EXPECT_THAT(driver_->violations, IsEmpty());
    EXPECT_EQ(driver_->leaks(), "");
    driver_->reset();
    ::dlclose(library_);
  }

  static Options options(const std::string& mode) {
    Options options;
    options.model_dir = fixture();
    options.mode = mode;
    options.max_sequences = kMaxSequences;
    options.max_batch_tokens = 64;
    options.n_kv_blocks = kNBlocks;
    return options;
  }

  // A runner of the fixture over the stand-in, and all that it needs.
  struct Open {
    explicit Open(const Options& options)
        : device(std::make_unique<device::CudaDevice>(
              0, cuda::DriverApi::load(NEREID_CUDA_DRIVER_STAND_IN))),
          runner(Runner::create(device, model::ModelConfig::load(fixture()), options)),
          generator(*runner, /*eos_ids=*/{}) {}

    device::FailingDevice device;
    std::unique_ptr<Runner> runner;
    Generator generator;
  };
  std::unique_ptr<Open> open(const std::string& mode) {
    model_.forget();
    auto run_options = options(mode);
    run_options.bundle_dir = bundle_.dir();
    return std::make_unique<Open>(run_options);
  }

  // Answers to all requests, run together.
  static std::vector<Answer> answers(Generator& generator, const std::vector<Request>& requests) {
    std::vector<Answer> all(requests.size());
    std::map<RequestId, std::size_t> index;
    for (std::size_t i = 0; i < requests.size(); ++i)
      index[generator.submit(requests[i], Clock::now(),
                             scripted_matchers(requests[i].constraint))] = i;
    while (generator.step([&](const AnswerEvent& event) {
      auto& answer = all[index.at(event.request)];
      answer.ids.insert(answer.ids.end(), event.ids.begin(), event.ids.end());
      answer.finish_reason = event.finish_reason;
      answer.error = event.error;
      return false;
    }))
      generator.check_integrity();
    generator.check_integrity();
    return all;
  }

  // Ids of all requests, run together.
  std::vector<Ids> generate(const std::string& mode, const std::vector<Request>& requests) {
    const auto opened = open(mode);
    std::vector<Ids> all;
    for (auto& answer : answers(opened->generator, requests)) all.push_back(answer.ids);
    return all;
  }

  static std::vector<Request> mixed_requests(std::size_t n) {
    std::mt19937 random(3);
    std::vector<Request> requests(n);
    for (auto& request : requests) {
      const auto n_prompt = 1 + random() % 80;
      for (std::size_t i = 0; i < n_prompt; ++i)
        request.prompt_ids.push_back(static_cast<std::int32_t>(random() % 500));
      request.max_tokens = static_cast<std::int64_t>(1 + random() % 70);
      if (random() % 3 == 0) request.sampling.temperature = 0.5F;
      if (random() % 5 == 0) request.sampling.repetition_penalty = 1.1F;
    }
    return requests;
  }

  static void expect_right(const std::vector<Request>& requests, const std::vector<Ids>& got) {
    ASSERT_EQ(got.size(), requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(got[i], continued(requests[i])) << i;
  }

  void expect_failures_to_cost_their_step(const std::vector<Request>& requests) {
    for (const char* mode : {"eager", "graph"}) {
      SCOPED_TRACE(mode);
      const auto opened = open(mode);
      auto& [device, runner, generator] = *opened;
      answers(generator, requests);
      // Of three steps, once all that is made when first used is there.
      const auto before = device.n_launches;
      std::int64_t n_steps = 0;
      std::int64_t n_launches = 0;
      for (const auto& request : requests)
        generator.submit(request, Clock::now(), scripted_matchers(request.constraint));
      while (generator.step([](const AnswerEvent&) { return false; }))
        if (++n_steps == 3) n_launches = device.n_launches - before;
      ASSERT_GT(n_launches, 3);
      int n_unharmed = 0;
      for (std::int64_t n = 0; n < n_launches; ++n) {
        SCOPED_TRACE(testing::Message() << "launch " << n << " of " << n_launches);
        device.fail_at = device.n_launches + n;
        int n_failed = 0;
        const auto all = answers(generator, requests);
        for (std::size_t i = 0; i < requests.size(); ++i) {
          const auto expected = continued(requests[i]);
          ASSERT_LE(all[i].ids.size(), expected.size());
          EXPECT_TRUE(std::ranges::equal(all[i].ids, std::span(expected).first(all[i].ids.size())));
          if (all[i].error.find("as the test asked") != std::string::npos) {
            ++n_failed;
          } else {
            ++n_unharmed;
            EXPECT_EQ(all[i].ids, expected) << i;
          }
        }
        EXPECT_GE(n_failed, 1);
      }
      EXPECT_GT(n_unharmed, 0);
      device.fail_at = -1;
      std::vector<Ids> ids;
      for (auto& answer : answers(generator, requests)) ids.push_back(answer.ids);
      expect_right(requests, ids);
    }
  }

  const StandInBundle bundle_{fixture(), options("eager"), kTarget};
  ModelOfTheTest model_{bundle_};
  cuda::DriverStandIn* driver_ = nullptr;

 private:
  void* library_ = nullptr;
};

TEST_F(GraphModeTest, GivesTheIdsOfEveryOtherMode) {
  const auto requests = mixed_requests(40);
  for (const char* mode : {"eager", "compiled"}) {
    SCOPED_TRACE(mode);
    expect_right(requests, generate(mode, requests));
    EXPECT_THAT(model_.n_replayed_rows, IsEmpty());
    EXPECT_GT(std::exchange(model_.n_mixed, 0U), 10U);
  }
  EXPECT_EQ(model_.n_padded, 0u);
  expect_right(requests, generate("graph", requests));
  EXPECT_GT(model_.n_padded, 0u);
  // Steps were replayed at every number of rows that a step is padded to.
  std::map<std::uint64_t, int> n_of_rows;
  for (const auto n : model_.n_replayed_rows) ++n_of_rows[n];
  for (const auto& [n_rows, n] : n_of_rows)
    EXPECT_TRUE(std::has_single_bit(n_rows) || n_rows == kMaxSequences) << n_rows;
  EXPECT_GE(n_of_rows.size(), 3u);
  EXPECT_TRUE(n_of_rows.contains(kMaxSequences));
}

TEST_F(GraphModeTest, IsWhatAGpuDoesUnlessToldOtherwise) {
  const auto requests = mixed_requests(1);
  expect_right(requests, generate("auto", requests));
  EXPECT_FALSE(model_.n_replayed_rows.empty());
}

TEST_F(GraphModeTest, AStepAfterTheFirstFewMakesTheSameCallsEachTime) {
  std::vector<Request> requests(3);
  for (auto& request : requests) {
    request.prompt_ids = {1, 2, 3};
    request.max_tokens = 40;
  }
  generate("graph", requests);
  // The last steps: inputs, graph, ids, and then the wait for the step before; and the context made
  // current for each.
  std::vector<std::string> calls;
  for (const auto& call : driver_->calls)
    if (call != "cuCtxSetCurrent") calls.push_back(call);
  const std::vector<std::string> step{"cuMemcpyHtoDAsync_v2", "cuGraphLaunch",
                                      "cuMemcpyDtoHAsync_v2", "cuEventRecord",
                                      "cuEventSynchronize"};
  const auto last = std::find_end(calls.begin(), calls.end(), step.begin(), step.end());
  ASSERT_GT(last - calls.begin(), 5 * 30);
  for (int i = 0; i < 5 * 30; ++i)
    ASSERT_EQ(*(last - 1 - i), step[static_cast<std::size_t>(4 - i % 5)]) << i;
}

TEST_F(GraphModeTest, NamesTheKernelsOfAReplayedStepThatFailed) {
  std::vector<Request> requests(1);
  requests[0].prompt_ids = {1, 2, 3};
  requests[0].max_tokens = 30;
  int n_left = 10;
  driver_->on_launch = [&](const cuda::StandInLaunch& launch) {
    model_.run(launch);
    if (launch.is_replayed && ModelOfTheTest::is_last(launch) && --n_left == 0)
      driver_->fail_kernel = launch.symbol;
  };
  const auto opened = open("graph");
  const auto answer = answers(opened->generator, requests)[0];
  EXPECT_EQ(answer.finish_reason, FinishReason::error);
  EXPECT_THAT(answer.error, HasSubstr("CUDA_ERROR_LAUNCH_FAILED"));
  EXPECT_THAT(answer.error, HasSubstr("in one of the kernels take_ids, gather_rows"));
  // Such a failure is for good.
  EXPECT_THAT(opened->generator.broken(), HasSubstr("CUDA_ERROR_LAUNCH_FAILED"));
  EXPECT_THROW(opened->generator.submit(requests[0]), Error);
}

TEST(GraphMode, IsAnErrorWhereADeviceCannotCapture) {
  device::CpuDevice device(1);
  Options options;
  options.model_dir = fixture();
  options.mode = "graph";
  try {
    Runner::create(device, model::ModelConfig::load(fixture()), options);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("cpu cannot capture"));
    EXPECT_THAT(error.what(), HasSubstr("--mode compiled"));
  }
}

TEST_F(GraphModeTest, ConstrainedAnswersAreMadeInTwoGraphsAStep) {
  auto requests = mixed_requests(60);
  for (std::size_t i = 0; i < requests.size(); i += 2) requests[i].constraint = scripted(i);
  for (const char* mode : {"eager", "compiled"}) {
    SCOPED_TRACE(mode);
    expect_right(requests, generate(mode, requests));
    EXPECT_EQ(model_.n_masked, 0u);
  }
  expect_right(requests, generate("graph", requests));
  EXPECT_GT(model_.n_masked, 20u);
}

TEST_F(GraphModeTest, AConstrainedStepMakesTheSameCallsEachTime) {
  // Answers that are long enough.
  std::vector<Request> requests;
  for (std::uint64_t number = 0; requests.size() < 3; ++number) {
    Request request{.prompt_ids = {1, 2, 3}, .max_tokens = 40, .constraint = scripted(number)};
    if (continued(request).size() == 40) requests.push_back(request);
  }
  generate("graph", requests);
  std::vector<std::string> calls;
  for (const auto& call : driver_->calls)
    if (call != "cuCtxSetCurrent") calls.push_back(call);
  // Inputs and the forward part; the wait for the step before; masks, the rest, and four results.
  const std::vector<std::string> step{"cuMemcpyHtoDAsync_v2", "cuGraphLaunch",
                                      "cuEventSynchronize",   "cuMemcpyHtoDAsync_v2",
                                      "cuGraphLaunch",        "cuMemcpyDtoHAsync_v2",
                                      "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoHAsync_v2",
                                      "cuMemcpyDtoHAsync_v2", "cuEventRecord"};
  const auto last = std::find_end(calls.begin(), calls.end(), step.begin(), step.end());
  ASSERT_NE(last, calls.end());
  ASSERT_GT(last - calls.begin(), 10 * 25);
  for (int i = 0; i < 10 * 25; ++i)
    ASSERT_EQ(*(last - 1 - i), step[static_cast<std::size_t>(9 - i % 10)]) << i;
}

// For every launch of three steps, with eight requests in flight, of which some wait.
TEST_F(GraphModeTest, ALaunchThatFailsCostsWhatWasInItsStep) {
  auto requests = mixed_requests(8);
  for (auto& request : requests) request.max_tokens = 4 + request.max_tokens % 5;
  expect_failures_to_cost_their_step(requests);
}

TEST_F(GraphModeTest, ALaunchThatFailsCostsWhatWasInItsConstrainedStep) {
  auto requests = mixed_requests(8);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].max_tokens = 4 + requests[i].max_tokens % 5;
    if (i % 2 == 0) requests[i].constraint = scripted(i + 100);
  }
  expect_failures_to_cost_their_step(requests);
}

}  // namespace
}  // namespace nereid::engine
