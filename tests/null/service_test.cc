// A service over a fake model: many threads at once, each answer as if alone; what is refused, what
// ends early, and that nothing is left.
#include "nereid/service.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <random>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/session.h"
#include "null/fake_service.h"
#include "null/generated_requests.h"

namespace nereid::engine {
namespace {

using namespace std::chrono_literals;

// Takes its time for a step, and may be told to wait.
class GatedRunner : public FakeRunner {
 public:
  using FakeRunner::FakeRunner;
  void open() { gate_.store(true), gate_.notify_all(); }

 protected:
  void on_queue(int) override { gate_.wait(false); }

 private:
  std::atomic<bool> gate_ = true;

 public:
  void shut() { gate_.store(false); }
};

std::int64_t sum(const std::array<std::int64_t, kNFinishReasons>& counts) {
  std::int64_t total = 0;
  for (const auto count : counts) total += count;
  return total;
}

void expect_consistent(const Metrics& metrics) {
  EXPECT_EQ(metrics.n_submitted, metrics.n_queued + metrics.n_running + metrics.n_finished);
  EXPECT_GE(metrics.n_queued, 0);
  EXPECT_GE(metrics.n_running, 0);
  EXPECT_GE(metrics.n_queued_prompt_tokens, 0);
  EXPECT_EQ(metrics.request_s.n(), metrics.n_finished);
  EXPECT_EQ(metrics.first_token_s.n() + metrics.between_tokens_s.n(), metrics.n_generated_tokens);
}

// NEREID_SERVICE_REQUESTS: how many; a thorough run has 100,000.
int n_requests() {
  const char* text = std::getenv("NEREID_SERVICE_REQUESTS");
  return text == nullptr ? 6400 : std::atoi(text);
}

TEST(Service, ManyThreadsSubmitStreamAndCancel) {
  constexpr int kNThreads = 64;
  const int n_each = n_requests() / kNThreads;
  for (const bool works_beside_host : {false, true}) {
    const auto runner =
        std::make_shared<FakeRunner>(FakeOptions{.n_kv_blocks = 400,
                                                 .max_batch_tokens = 96,
                                                 .max_sequences = 24,
                                                 .max_mixed_tokens = 48,
                                                 .works_beside_host = works_beside_host});
    std::atomic<int> n_steps_told = 0;
    auto service =
        serve(runner, {.max_queued_requests = 40, .on_step = [&](auto) { ++n_steps_told; }});
    std::atomic<int> n_cancelled = 0, n_refused = 0, n_submitted = 0;
    const auto use = [&](int thread) {
      std::mt19937 random(unsigned(thread) * 7919 + works_beside_host);
      for (int i = 0; i < n_each;) {
        Request request = drawn_request(random);
        if (request.max_tokens > 12) request.max_tokens = 1 + request.max_tokens % 12;
        request.min_tokens = std::min(request.min_tokens, request.max_tokens);
        request.sampling.seed = random();
        request.user_id = std::to_string(i);
        try {
          Stream stream = service->submit(request);
          ++i;
          ++n_submitted;
          switch (random() % 4) {
            case 0: {  // read to the end
              const auto completion = stream.wait();
              EXPECT_EQ(completion.user_id, request.user_id);
              expect_as_alone(completion, request, 0);
              break;
            }
            case 1: {  // look in now and then
              std::size_t n_tokens = 0;
              while (stream.poll([&](const Progress& progress) { n_tokens += progress.ids.size(); },
                                 std::chrono::milliseconds(random() % 3))) {
              }
              std::size_t n_expected = 0;
              for (std::int32_t a = 0; a < request.n_answers; ++a)
                n_expected += answer_alone(request, a, 0).ids.size();
              EXPECT_EQ(n_tokens, n_expected);
              break;
            }
            case 2: {  // cancel, and take what there is
              for (auto n = random() % 3; n > 0; --n) stream.next({});
              stream.cancel();
              const auto completion = stream.wait();
              for (std::int32_t a = 0; a < request.n_answers; ++a) {
                const auto expected = answer_alone(request, a, 0).ids;
                const auto& ids = completion.answers[std::size_t(a)].ids;
                ASSERT_LE(ids.size(), expected.size());
                EXPECT_TRUE(std::equal(ids.begin(), ids.end(), expected.begin()));
              }
              ++n_cancelled;
              break;
            }
            default:  // drop it
              for (auto n = random() % 2; n > 0; --n) stream.next({});
          }
        } catch (const Error& error) {
          ASSERT_EQ(error.code(), ErrorCode::overloaded) << error.what();
          ++n_refused;
          std::this_thread::yield();
        }
        if (random() % 64 == 0) expect_consistent(service->metrics());
      }
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < kNThreads; ++t) threads.emplace_back(use, t);
    for (auto& thread : threads) thread.join();
    EXPECT_TRUE(service->drain());
    EXPECT_EQ(code_of([&] { service->submit({.prompt_ids = {1}}); }), ErrorCode::draining);
    const auto metrics = service->metrics();
    expect_consistent(metrics);
    EXPECT_EQ(metrics.n_submitted, n_submitted);
    EXPECT_EQ(metrics.n_finished, n_submitted);
    EXPECT_EQ(metrics.n_refused, n_refused + 1);
    EXPECT_GE(sum(metrics.n_ended_answers), metrics.n_finished);
    EXPECT_EQ(metrics.n_used_kv_blocks, 0);
    EXPECT_EQ(metrics.n_queued_prompt_tokens, 0);
    EXPECT_GT(n_steps_told, 0);
    EXPECT_GT(n_cancelled, 0);
    EXPECT_GT(n_refused, 0);
    // Its end looks for anything that is left.
    service.reset();
  }
}

TEST(Service, AFullQueueRefusesByRequestsAndByTokens) {
  const auto runner = std::make_shared<GatedRunner>(FakeOptions{.max_sequences = 1});
  runner->shut();
  auto service = serve(runner, {.max_queued_requests = 3, .max_queued_prompt_tokens = 50});
  const Request of_20{.prompt_ids = std::vector<TokenId>(20, 1), .max_tokens = 2};
  std::vector<Stream> streams;
  streams.push_back(service->submit(of_20));
  streams.push_back(service->submit(of_20));
  EXPECT_EQ(code_of([&] { service->submit(of_20); }), ErrorCode::overloaded);  // 60 tokens
  streams.push_back(service->submit({.prompt_ids = {1, 2}}));
  EXPECT_EQ(code_of([&] { service->submit({.prompt_ids = {1}}); }), ErrorCode::overloaded);
  auto metrics = service->metrics();
  EXPECT_EQ(metrics.n_refused, 2);
  EXPECT_EQ(metrics.n_queued, 3);
  EXPECT_EQ(metrics.n_queued_prompt_tokens, 42);
  runner->open();
  for (auto& stream : streams) stream.wait();
  service->submit(of_20).wait();
  metrics = service->metrics();
  EXPECT_EQ(metrics.n_finished, 4);
  EXPECT_EQ(metrics.n_queued_prompt_tokens, 0);
}

TEST(Service, BadRequestsAreRefusedWhereTheyComeFrom) {
  auto service = serve(std::make_shared<FakeRunner>(FakeOptions{}));
  EXPECT_EQ(code_of([&] { service->submit({.prompt_ids = {97}}); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { service->submit({.prompt_ids = {1}, .sampling = {.top_p = 2}}); }),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { service->submit({.prompt = "text"}); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { service->submit({.prompt_ids = std::vector<TokenId>(65, 1)}); }),
            ErrorCode::context_length);
  EXPECT_EQ(service->metrics().n_submitted, 0);
}

TEST(Service, DrainTellsWhenTimeRunsOut) {
  const auto runner = std::make_shared<GatedRunner>(FakeOptions{});
  runner->shut();
  auto service = serve(runner);
  Stream stream = service->submit({.prompt_ids = {1}, .max_tokens = 3});
  EXPECT_FALSE(service->drain(1ms));
  EXPECT_EQ(service->status().state, ServiceState::draining);
  runner->open();
  EXPECT_TRUE(service->drain());
  EXPECT_EQ(stream.wait().answers[0].ids.size(), 3U);
}

TEST(Service, StreamsOutliveIt) {
  const auto runner = std::make_shared<GatedRunner>(FakeOptions{});
  runner->shut();
  auto service = serve(runner);
  std::vector<Stream> streams;
  for (int i = 0; i < 10; ++i)
    streams.push_back(
        service->submit({.prompt_ids = {1}, .n_answers = 2, .max_tokens = 40, .ignore_eos = true}));
  runner->open();
  service.reset();
  for (auto& stream : streams)
    for (const auto& answer : stream.wait().answers)
      EXPECT_EQ(answer.finish_reason,
                answer.ids.size() < 40 ? FinishReason::cancelled : FinishReason::length);
}

TEST(Service, ACallbackThatThrowsCostsNobodyElse) {
  auto service = serve(std::make_shared<FakeRunner>(FakeOptions{}));
  const Request request{.prompt_ids = {1}, .max_tokens = 10, .ignore_eos = true};
  for (int position = 0; position < 10; ++position) {
    Stream other = service->submit(request);
    int n_calls = 0;
    {
      Stream stream = service->submit(request);
      EXPECT_THROW(while (stream.next([&](const Progress&) {
                     if (n_calls++ == position) throw std::runtime_error("of the caller");
                   })){},
                   std::runtime_error);
    }
    expect_as_alone(other.wait(), request, 0);
  }
  EXPECT_TRUE(service->drain());
}

// Fails when told to, and then for good where it is lost.
class FailingRunner : public FakeRunner {
 public:
  using FakeRunner::FakeRunner;
  std::atomic<int> fail_at = -1;

 protected:
  void on_wait(int step) override {
    if (step == fail_at) {
      if (is_last) lose();
      throw Error(ErrorCode::device, "step {} failed", step);
    }
  }

 public:
  bool is_last = false;
};

TEST(Service, AFailedStepEndsItsRequestsAndALostDeviceAll) {
  const auto runner = std::make_shared<FailingRunner>(FakeOptions{});
  auto service = serve(runner);
  const Request request{.prompt_ids = {1}, .max_tokens = 10, .ignore_eos = true};
  runner->fail_at = 2;
  const auto failed = service->submit(request).wait();
  EXPECT_EQ(failed.answers[0].finish_reason, FinishReason::error);
  EXPECT_EQ(failed.answers[0].error, "step 2 failed");
  EXPECT_EQ(failed.answers[0].ids.size(), 2U);
  EXPECT_EQ(service->metrics().n_failed_steps, 1);
  expect_as_alone(service->submit(request).wait(), request, 0);
  runner->is_last = true;
  runner->fail_at = runner->n_waited + 3;
  EXPECT_EQ(service->submit(request).wait().answers[0].finish_reason, FinishReason::error);
  EXPECT_EQ(service->status().state, ServiceState::failed);
  EXPECT_EQ(code_of([&] { service->submit(request); }), ErrorCode::device);
  EXPECT_TRUE(service->drain());
}

TEST(Service, OpeningIsToldAndMayFail) {
  std::barrier<> at_stage(2), seen(2);
  const auto opener = [&](const ProgressSink& progress) -> ServedModel {
    progress("reading weights", 3, 8);
    at_stage.arrive_and_wait();
    seen.arrive_and_wait();
    throw Error(ErrorCode::not_found, "no such model");
  };
  Service service(std::make_unique<Service::Impl>(opener, ServiceOptions{}));
  at_stage.arrive_and_wait();
  auto status = service.status();
  EXPECT_EQ(status.state, ServiceState::opening);
  EXPECT_EQ(status.stage, "reading weights");
  EXPECT_EQ(status.n_done, 3);
  EXPECT_EQ(status.n_total, 8);
  EXPECT_EQ(code_of([&] { service.submit({.prompt_ids = {1}}); }), ErrorCode::overloaded);
  seen.arrive_and_wait();
  EXPECT_THROW(service.wait_until_ready(), Error);
  status = service.status();
  EXPECT_EQ(status.state, ServiceState::failed);
  EXPECT_EQ(status.error, "no such model");
  // It is of no use to ask again later.
  EXPECT_EQ(code_of([&] { service.submit({.prompt_ids = {1}}); }), ErrorCode::not_found);
  EXPECT_EQ(code_of([&] { service.model(); }), ErrorCode::not_found);
  EXPECT_TRUE(service.drain());
}

TEST(Service, DrainingBeforeItIsOpenWaitsForTheModelAllTheSame) {
  const auto runner = std::make_shared<FakeRunner>(FakeOptions{});
  std::barrier<> drained(2);
  const auto opener = [&](const ProgressSink&) {
    drained.arrive_and_wait();
    return served(runner);
  };
  Service service(std::make_unique<Service::Impl>(opener, ServiceOptions{}));
  EXPECT_TRUE(service.drain());
  EXPECT_EQ(service.status().state, ServiceState::draining);
  drained.arrive_and_wait();
  service.wait_until_ready();
  EXPECT_EQ(service.model().device, "fake");
  EXPECT_EQ(service.status().state, ServiceState::draining);
  EXPECT_EQ(code_of([&] { service.submit({.prompt_ids = {1}}); }), ErrorCode::draining);
}

TEST(Service, AnEndWhileOpeningWaitsForTheOpener) {
  std::atomic<bool> is_open = false;
  {
    Service service(std::make_unique<Service::Impl>(
        [&](const ProgressSink&) {
          std::this_thread::sleep_for(5ms);
          is_open = true;
          return served(std::make_shared<FakeRunner>(FakeOptions{}));
        },
        ServiceOptions{}));
  }
  EXPECT_TRUE(is_open);
}

// As a server reads: only those streams that a step named.
TEST(Service, AStepNamesTheStreamsThatHaveSomething) {
  const auto runner =
      std::make_shared<FakeRunner>(FakeOptions{.max_sequences = 4, .works_beside_host = true});
  std::mutex mutex;
  std::condition_variable has_news;
  std::deque<RequestId> news;
  const auto service = serve(runner, {.on_step = [&](std::span<const RequestId> requests) {
                               EXPECT_FALSE(requests.empty());
                               const std::scoped_lock lock(mutex);
                               news.insert(news.end(), requests.begin(), requests.end());
                               has_news.notify_one();
                             }});
  std::mt19937 random(1);
  std::unordered_map<RequestId, std::pair<Stream, Request>> open;
  for (int i = 0; i < 40; ++i) {
    Request request = drawn_request(random);
    request.sampling.seed = random();
    auto stream = service->submit(request);
    const auto id = stream.id();
    open.emplace(id, std::pair(std::move(stream), request));
  }
  while (!open.empty()) {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(has_news.wait_for(lock, 20s, [&] { return !news.empty(); })) << open.size();
    const auto id = news.front();
    news.pop_front();
    lock.unlock();
    const auto it = open.find(id);
    if (it == open.end()) continue;  // read to its end before the step that brought it named it
    auto& [stream, request] = it->second;
    if (stream.poll({})) continue;
    expect_as_alone(stream.wait(), request, 0);
    open.erase(it);
  }
}

// A server asks a thousand streams, of which few have anything: were each asking a wait, if only of
// no time, it would lose the processor each time.
TEST(Service, AskingAnIdleStreamWaitsForNothing) {
  const auto runner = std::make_shared<GatedRunner>(FakeOptions{});
  const auto service = serve(runner);
  runner->shut();
  Stream stream = service->submit({.prompt_ids = {1}, .max_tokens = 4, .ignore_eos = true});
  const auto n_waits = [] {
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
  };
  const auto n_before = n_waits();
  for (int i = 0; i < 1000; ++i) stream.poll({});
  EXPECT_LT(n_waits() - n_before, 100);
  runner->open();
  EXPECT_EQ(stream.wait().answers.at(0).ids.size(), 4U);
}

TEST(Service, WhatThrowsOnItsThreadFailsItAndEndsAllStreams) {
  for (const bool is_exception : {true, false}) {
    const auto runner =
        std::make_shared<FakeRunner>(FakeOptions{.max_sequences = 2, .works_beside_host = true});
    std::atomic<int> n_calls = 0;
    auto service = serve(runner, {.on_step = [&](auto) {
                           if (++n_calls != 3) return;
                           if (is_exception) throw std::runtime_error("of the caller");
                           throw 17;
                         }});
    const Request request{.prompt_ids = {1}, .n_answers = 2, .max_tokens = 40, .ignore_eos = true};
    std::vector<Stream> streams;
    try {  // as many as it takes before it fails: some run, others wait
      for (int i = 0; i < 20; ++i) streams.push_back(service->submit(request));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::internal) << error.what();
    }
    const std::string expected =
        is_exception ? "of the caller" : "something that is no std::exception was thrown";
    for (auto& stream : streams)
      for (const auto& answer : stream.wait().answers) {
        EXPECT_EQ(answer.finish_reason, FinishReason::error);
        EXPECT_EQ(answer.error, expected);
        EXPECT_LT(answer.ids.size(), 40U);
      }
    EXPECT_EQ(service->status().state, ServiceState::failed);
    EXPECT_EQ(service->status().error, expected);
    EXPECT_EQ(code_of([&] { service->submit(request); }), ErrorCode::internal);
    EXPECT_TRUE(service->drain());
    const auto metrics = service->metrics();
    expect_consistent(metrics);
    EXPECT_EQ(metrics.n_finished, std::int64_t(streams.size()));
    EXPECT_EQ(metrics.n_queued_prompt_tokens, 0);
    EXPECT_EQ(metrics.n_ended_answers[std::size_t(FinishReason::error)],
              2 * std::int64_t(streams.size()));
  }
}

TEST(Service, CallbacksMaySubmitAndCancel) {
  auto service = serve(std::make_shared<FakeRunner>(FakeOptions{}));
  const Request request{.prompt_ids = {1}, .max_tokens = 50, .ignore_eos = true};
  std::vector<Stream> streams;
  streams.push_back(service->submit(request));
  std::size_t n_calls = 0;
  while (streams[0].next([&](const Progress&) {
    if (++n_calls != 2) return;
    streams[0].cancel();
    streams[0].cancel();
    const auto other = service->submit(request).wait();  // of a stream of its own
    expect_as_alone(other, request, 0);
  })) {
  }
  EXPECT_FALSE(streams[0].poll({}));
  const Completion ended = streams[0].wait();
  const Answer& answer = ended.answers[0];
  // All may have come before the first was read.
  EXPECT_EQ(answer.finish_reason,
            answer.ids.size() < 50 ? FinishReason::cancelled : FinishReason::length);
}

TEST(Service, AResultIsGivenOnceAndAMovedStreamSaysSo) {
  auto service = serve(std::make_shared<FakeRunner>(FakeOptions{}));
  Stream from = service->submit({.prompt_ids = {1}, .max_tokens = 3, .ignore_eos = true});
  Stream to = std::move(from);
  for (const auto& action : std::vector<std::function<void()>>{
           [&] { from.id(); }, [&] { from.next({}); }, [&] { from.poll({}); }, [&] { from.wait(); },
           [&] { from.cancel(); }})
    EXPECT_EQ(code_of(action), ErrorCode::invalid_argument);
  EXPECT_EQ(to.wait().answers[0].ids.size(), 3U);
  EXPECT_EQ(code_of([&] { to.wait(); }), ErrorCode::invalid_argument);
  EXPECT_FALSE(to.next({}));
  to.cancel();  // of what is finished: nothing
  to = service->submit({.prompt_ids = {1}, .max_tokens = 2, .ignore_eos = true});
  EXPECT_EQ(to.wait().answers[0].ids.size(), 2U);
}

TEST(Service, TheLongestAndShortestTimesAreTimes) {
  constexpr auto kLongest = std::chrono::milliseconds::max();
  const auto runner = std::make_shared<GatedRunner>(FakeOptions{});
  runner->shut();
  auto service = serve(runner);
  Stream stream = service->submit(
      {.prompt_ids = {1}, .max_tokens = 3, .ignore_eos = true, .time_limit = kLongest});
  EXPECT_TRUE(stream.poll({}, std::chrono::milliseconds::min()));
  EXPECT_FALSE(service->drain(std::chrono::milliseconds::min()));
  runner->open();
  EXPECT_TRUE(service->drain(kLongest - 1ms));
  EXPECT_TRUE(service->drain());
  while (stream.poll({}, kLongest - 1ms)) {
  }
  EXPECT_EQ(stream.wait().answers[0].finish_reason, FinishReason::length);
}

TEST(Service, AQueueForNothingIsAnError) {
  const auto serve_with = [](ServiceOptions options) {
    return [options] { serve(std::make_shared<FakeRunner>(FakeOptions{}), options); };
  };
  EXPECT_EQ(code_of(serve_with({.max_queued_requests = 0})), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of(serve_with({.max_queued_prompt_tokens = -1})), ErrorCode::invalid_argument);
}

// Says one text, whatever it is asked.
class SayingRunner : public FakeRunner {
 public:
  explicit SayingRunner(std::vector<TokenId> text)
      : FakeRunner({.works_beside_host = true}), text_(std::move(text)) {}
  std::int64_t vocab_size() const override { return 8192; }

 protected:
  std::int32_t choose(const Ids&, const SamplingRow& row, const Slot&) override {
    return text_[std::size_t(row.n_generated) % text_.size()];
  }

 private:
  std::vector<TokenId> text_;
};

TEST(Service, AStopStringEndsEachAnswerForItself) {
  const std::shared_ptr<const tokenizer::Tokenizer> tokenizer =
      load_tokenizer(std::string(NEREID_SOURCE_DIR) + "/models/demo");
  ASSERT_TRUE(tokenizer);
  const auto runner = std::make_shared<SayingRunner>(tokenizer->encode("one two, three", false));
  const auto opener = [&](const ProgressSink&) {
    auto model = served(runner);
    model.tokenizer = tokenizer;
    model.eos_ids = {};
    return model;
  };
  Service service(std::make_unique<Service::Impl>(opener, ServiceOptions{}));
  service.wait_until_ready();
  for (int i = 0; i < 20; ++i) {
    const auto completion =
        service.submit({.prompt = "x", .n_answers = 6, .max_tokens = 40, .stop = {", th"}}).wait();
    for (const auto& answer : completion.answers) {
      EXPECT_EQ(answer.text, "one two");
      EXPECT_EQ(answer.finish_reason, FinishReason::stop);
    }
  }
  EXPECT_TRUE(service.drain());
  const auto metrics = service.metrics();
  expect_consistent(metrics);
  EXPECT_EQ(metrics.n_finished, 20);
  EXPECT_EQ(sum(metrics.n_ended_answers), 120);
  EXPECT_EQ(metrics.n_used_kv_blocks, 0);
}

}  // namespace
}  // namespace nereid::engine
