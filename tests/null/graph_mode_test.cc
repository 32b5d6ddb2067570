// The whole way of a decoding step in graph mode without a GPU: runner and generator over the cuda
// device over the driver stand-in. The stand-in's kernels are a model of the tests' own: a token is
// a function of all tokens before it, as they are found through slots and block tables in the
// memory of the "GPU" when a kernel runs.

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"
#include "engine/generator.h"
#include "engine/runner.h"
#include "kernel/spec.h"
#include "null/cuda_driver_stand_in.h"
#include "null/failing_device.h"
#include "null/scripted_matcher.h"
#include "null/stand_in_bundle.h"
#include "program/planner.h"

namespace nereid::engine {
namespace {

namespace cuda = device::cuda;
namespace fs = std::filesystem;

using testing::HasSubstr;
using testing::IsEmpty;
using Ids = std::vector<std::int32_t>;

constexpr std::int64_t kBlockTokens = 64;
constexpr std::int64_t kNBlocks = 40;
constexpr std::int64_t kMaxSequences = 12;  // no power of two: the last bucket
constexpr const char* kTarget = "cuda:90";
constexpr std::int32_t kNIds = 500;  // that the tests' model says; the fixture has a few more

fs::path fixture() { return fs::path(NEREID_SOURCE_DIR) / "tests" / "fixtures" / "llama3"; }

std::int32_t next_id(std::span<const std::int32_t> context) {
  std::uint64_t hash = 14695981039346656037U;
  for (const auto id : context) hash = (hash ^ static_cast<std::uint64_t>(id)) * 1099511628211U;
  return static_cast<std::int32_t>((hash >> 20) % kNIds);
}

// The first from there on that is allowed, from the end on to the beginning; -1: none is.
template <typename IsAllowed>
std::int32_t allowed_from(std::int32_t first, const IsAllowed& is_allowed) {
  for (std::int32_t i = 0; i < kNIds; ++i)
    if (is_allowed((first + i) % kNIds)) return (first + i) % kNIds;
  return -1;
}

// What a request alone gets.
Ids continued(const Request& request) {
  Ids ids = request.prompt_ids;
  Ids added;
  const bool is_constrained = request.constraint.kind != Constraint::Kind::none;
  ScriptedMatcher matcher(is_constrained ? std::stoull(request.constraint.text) : 0);
  while (std::ssize(added) < request.max_tokens && !(is_constrained && matcher.is_finished())) {
    auto id = next_id(ids);
    if (is_constrained)
      id = allowed_from(id, [&](std::int32_t some) { return matcher.allows(some); });
    if (id < 0) break;
    if (is_constrained) {
      EXPECT_TRUE(matcher.accept(id));
    }
    ids.push_back(id);
    added.push_back(id);
  }
  return added;
}

// What the kernels do. Arguments are found by name, so that any set of fused kernels serves.
class ModelOfTheTest {
 public:
  explicit ModelOfTheTest(const StandInBundle& bundle)
      : bundle_(bundle), cache_(static_cast<std::size_t>(kNBlocks * kBlockTokens), -1) {}

  void run(const cuda::StandInLaunch& launch) {
    const auto& names = bundle_.args(launch.symbol);
    const auto has = [&](const char* name) {
      return std::ranges::find(names, name) != names.end();
    };
    const auto value = [&](const char* name) {
      const auto it = std::ranges::find(names, name);
      NEREID_CHECK(it != names.end(), "{} has no {}", launch.symbol, name);
      return launch.args[static_cast<std::size_t>(it - names.begin())];
    };
    const auto ids_at = [&](const char* name) {
      return reinterpret_cast<std::int32_t*>(value(name));
    };
    if (launch.symbol == "take_ids")
      take(ids_at("out_ptr"), ids_at("ids_ptr"), ids_at("last_ids_ptr"), value("n_tokens"));
    if (launch.symbol.starts_with("gather_rows")) {  // alone, or with the norm behind it
      // One looks tokens up; one at another address takes the rows that want logits.
      const auto* ids = ids_at("ids_ptr");
      if (ids != token_ids_) {
        logit_rows_ = ids;
      } else {
        attended_.clear();
        query_starts_ = nullptr;
      }
    }
    // What writes the cache, whatever else it was fused with.
    if (launch.symbol == "kv_write") write(ids_at("slot_mapping_ptr"), value("n_tokens"));
    if (launch.symbol == "rope_kv_write") write(ids_at("slots_ptr"), value("n_tokens"));
    if (launch.symbol.starts_with("attention_decode_") && has("slots_ptr"))
      write(ids_at("slots_ptr"), value("n_seqs"));
    if (has("context_lens_ptr")) {
      block_tables_ = ids_at("block_tables_ptr");
      context_lens_ = ids_at("context_lens_ptr");
      const bool is_of_prompts = has("cu_seqlens_ptr");
      if (is_of_prompts) query_starts_ = ids_at("cu_seqlens_ptr");
      max_blocks_ = value("max_blocks");
      n_mixed += !is_of_prompts && query_starts_ != nullptr;
      for (auto s = is_of_prompts ? value("first_seq") : 0; s < value("n_seqs"); ++s)
        attended_.insert(s);
      if (launch.is_replayed) n_replayed_rows.push_back(value("n_seqs"));
    }
    if (launch.symbol == "adjust_logits") {
      n_masked += launch.is_replayed;
      masks_.clear();
      for (std::uint64_t row = 0; row < value("n_rows"); ++row) {
        const auto slot = ids_at("slots_ptr")[row];
        if (slot < 0) continue;
        const auto* words = ids_at("allowed_ptr") + std::uint64_t(slot) * value("allowed_stride");
        masks_[row].assign(words, words + value("allowed_stride"));
      }
    }
    if (is_last(launch)) choose(ids_at("out_ptr"), value("n_rows"));
  }

  static bool is_last(const cuda::StandInLaunch& launch) {
    return launch.symbol == "greedy" || launch.symbol == "greedy_split" ||
           launch.symbol == "sample" || launch.symbol == "sample_split";
  }

  // Another runner comes, with its own memory.
  void forget() { std::ranges::fill(cache_, -1); }

  std::vector<std::uint64_t> n_replayed_rows;  // of each attention in a replayed step
  std::uint64_t n_padded = 0;
  std::uint64_t n_masked = 0;  // replayed steps of the largest kind
  std::uint64_t n_mixed = 0;   // attention of decoding rows beside prompts

 private:
  void take(std::int32_t* out, const std::int32_t* ids, const std::int32_t* last_ids,
            std::uint64_t n_tokens) {
    for (std::uint64_t t = 0; t < n_tokens; ++t)
      out[t] = ids[t] >= 0 ? ids[t] : last_ids[-1 - ids[t]];
    token_ids_ = out;
  }

  void write(const std::int32_t* slots, std::uint64_t n_tokens) {
    for (std::uint64_t t = 0; t < n_tokens; ++t)
      if (slots[t] >= 0) cache_.at(static_cast<std::size_t>(slots[t])) = token_ids_[t];
  }

  // The sequence whose last token is row `t` of the step.
  std::uint64_t sequence_of(std::int32_t t) const {
    if (query_starts_ == nullptr) return static_cast<std::uint64_t>(t);
    std::uint64_t s = 0;
    while (query_starts_[s + 1] <= t) ++s;
    return s;
  }

  void choose(std::int32_t* out, std::uint64_t n_rows) {
    for (std::uint64_t row = 0; row < n_rows; ++row) {
      const auto s = sequence_of(logit_rows_[row]);
      NEREID_CHECK(attended_.contains(s), "row {} of sequence {}: no attention", row, s);
      Ids context;
      for (std::int64_t p = 0; p < context_lens_[s]; ++p) {
        const auto block =
            block_tables_[s * max_blocks_ + static_cast<std::uint64_t>(p / kBlockTokens)];
        context.push_back(
            cache_.at(static_cast<std::size_t>(block * kBlockTokens + p % kBlockTokens)));
      }
      n_padded += context.empty();
      out[row] = context.empty() ? -7 : next_id(context);
      const auto mask = masks_.find(row);
      if (context.empty() || mask == masks_.end()) continue;
      out[row] = std::max(0, allowed_from(out[row], [&](std::int32_t id) {
                            const auto word =
                                static_cast<std::uint32_t>(mask->second.at(std::size_t(id) / 32));
                            return ((word >> (id % 32)) & 1) != 0;
                          }));
    }
    masks_.clear();
  }

  const StandInBundle& bundle_;
  Ids cache_;
  const std::int32_t* token_ids_ = nullptr;
  const std::int32_t* logit_rows_ = nullptr;
  const std::int32_t* block_tables_ = nullptr;
  const std::int32_t* context_lens_ = nullptr;
  const std::int32_t* query_starts_ = nullptr;
  std::set<std::uint64_t> attended_;  // sequences of the step
  std::uint64_t max_blocks_ = 0;
  std::map<std::uint64_t, Ids> masks_;  // of the step's rows that have a slot
};

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
