// One model on two GPUs without a GPU: both ranks over the driver stand-in, captured steps replayed
// on a thread each.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

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

constexpr std::size_t kNRanks = 2;

class GraphRanksTest : public testing::Test {
 protected:
  GraphRanksTest() {
    library_ = ::dlopen(NEREID_CUDA_DRIVER_STAND_IN, RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw std::runtime_error(::dlerror());
    driver_ =
        reinterpret_cast<cuda::DriverStandInEntry>(::dlsym(library_, cuda::kDriverStandInEntry))();
    driver_->reset();
    driver_->n_devices = kNRanks;
    driver_->on_launch = [this](const cuda::StandInLaunch& launch) {
      models_.at(static_cast<std::size_t>(launch.device)).run(launch);
    };
  }
  ~GraphRanksTest() override {
    generator_.reset();
    runner_.reset();
    devices_.clear();
    EXPECT_THAT(driver_->violations, IsEmpty());
    EXPECT_EQ(driver_->leaks(), "");
    driver_->reset();
    ::dlclose(library_);
  }

  static Options options() {
    Options options;
    options.model_dir = fixture();
    options.mode = "graph";
    options.max_sequences = kMaxSequences;
    options.max_batch_tokens = 64;
    options.n_kv_blocks = kNBlocks;
    return options;
  }

  void open() {
    auto run_options = options();
    run_options.bundle_dir = bundle_.dir();
    std::vector<device::Device*> devices;
    for (std::size_t i = 0; i < kNRanks; ++i) {
      devices_.push_back(
          std::make_unique<device::FailingDevice>(std::make_unique<device::CudaDevice>(
              static_cast<int>(i), cuda::DriverApi::load(NEREID_CUDA_DRIVER_STAND_IN))));
      devices.push_back(devices_.back().get());
    }
    runner_ = Runner::create(devices, model::ModelConfig::load(fixture()), run_options);
    generator_ = std::make_unique<Generator>(*runner_, std::vector<std::int32_t>());
  }

  // Some are constrained, whose steps are queued in two parts; some ask for no logits in most
  // steps.
  static std::vector<Request> requests(std::size_t n) {
    std::mt19937 random(11);
    std::vector<Request> requests(n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto n_prompt = 1 + random() % (i % 4 == 0 ? 300 : 20);
      for (std::size_t t = 0; t < n_prompt; ++t)
        requests[i].prompt_ids.push_back(static_cast<std::int32_t>(random() % 500));
      requests[i].max_tokens = static_cast<std::int64_t>(1 + random() % 40);
      if (i % 3 == 1) requests[i].constraint = scripted(i);
    }
    return requests;
  }

  std::vector<Answer> run(const std::vector<Request>& requests) {
    std::vector<Answer> all(requests.size());
    std::map<RequestId, std::size_t> index;
    for (std::size_t i = 0; i < requests.size(); ++i)
      index[generator_->submit(requests[i], Clock::now(),
                               scripted_matchers(requests[i].constraint))] = i;
    while (generator_->step([&](const AnswerEvent& event) {
      auto& answer = all[index.at(event.request)];
      answer.ids.insert(answer.ids.end(), event.ids.begin(), event.ids.end());
      answer.error = event.error;
      return false;
    }))
      generator_->check_integrity();
    generator_->check_integrity();
    return all;
  }

  static void expect_right(const std::vector<Request>& requests, const std::vector<Answer>& got) {
    for (std::size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(got[i].ids, continued(requests[i])) << i << ": " << got[i].error;
  }

  // Slots of one parity are written in every other exchange, whatever steps these are of: numbers
  // follow each other, on both.
  void expect_epochs_in_order() {
    driver_->on_launch = {};
    const auto& epochs = models_[0].epochs;
    ASSERT_GT(epochs.size(), 500u);
    for (std::size_t i = 1; i < epochs.size(); ++i)
      ASSERT_EQ(epochs[i], epochs[i - 1] + 1) << "exchange " << i;
    EXPECT_EQ(models_[1].epochs, epochs);
  }

  const StandInBundle bundle_{fixture(), options(), kTarget, kNRanks};
  std::array<ModelOfTheTest, kNRanks> models_{ModelOfTheTest(bundle_), ModelOfTheTest(bundle_)};
  cuda::DriverStandIn* driver_ = nullptr;
  std::vector<std::unique_ptr<device::FailingDevice>> devices_;
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<Generator> generator_;

 private:
  void* library_ = nullptr;
};

TEST_F(GraphRanksTest, BothGiveTheIdsAndNumberTheirExchanges) {
  open();
  const auto asked = requests(40);
  expect_right(asked, run(asked));
  for (const auto& model : models_) EXPECT_GT(model.n_replayed_rows.size(), 50u);
  EXPECT_EQ(driver_->admitted.size(), kNRanks * (kNRanks - 1));
  for (const auto& device : devices_) device->synchronize();
  expect_epochs_in_order();
}

TEST_F(GraphRanksTest, AReplayThatFailsOnOneCostsItsStep) {
  open();
  const auto asked = requests(12);
  expect_right(asked, run(asked));
  for (std::int64_t n = 0; n < 60; n += 5) {
    SCOPED_TRACE(n);
    devices_[std::size_t(n / 5) % kNRanks]->fail_at =
        devices_[std::size_t(n / 5) % kNRanks]->n_launches + n;
    int n_failed = 0;
    const auto answers = run(asked);
    for (std::size_t i = 0; i < asked.size(); ++i) {
      const auto expected = continued(asked[i]);
      if (answers[i].error.empty()) {
        EXPECT_EQ(answers[i].ids, expected) << i;
        continue;
      }
      ++n_failed;
      EXPECT_THAT(answers[i].error, HasSubstr("as the test asked"));
      EXPECT_TRUE(
          std::ranges::equal(answers[i].ids, std::span(expected).first(answers[i].ids.size())));
    }
    EXPECT_GE(n_failed, 1);
  }
  expect_right(asked, run(asked));
}

TEST_F(GraphRanksTest, WithoutALinkNothingIsOpened) {
  driver_->has_peer_access = false;
  try {
    open();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::device);
    EXPECT_THAT(error.what(), HasSubstr("cuda:1 does not reach the memory of cuda:0"));
  }
}

}  // namespace
}  // namespace nereid::engine
