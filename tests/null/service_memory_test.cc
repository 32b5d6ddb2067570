// A service whose thread runs out of memory, at each allocation that it makes: it never takes the
// process with it, and every stream ends.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <vector>

#include "null/fake_service.h"

namespace {
// Allocations of this thread that succeed before some fail, and how many then do. None fail where
// the first is negative.
thread_local long n_before_failure = -1;
thread_local long n_failures = 0;

void* allocate_or_fail(std::size_t size_bytes) {
  if (n_before_failure == 0 && n_failures > 0) {
    --n_failures;
    throw std::bad_alloc();
  }
  if (n_before_failure > 0) --n_before_failure;
  if (void* memory = std::malloc(size_bytes)) return memory;
  throw std::bad_alloc();
}
}  // namespace

// None is inlined: gcc would take the malloc() or free() in a caller for a mistake.
[[gnu::noinline]] void* operator new(std::size_t size) { return allocate_or_fail(size); }
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace nereid::engine {
namespace {

// Memory runs short on the thread that computes, from its first step on.
class ShortOfMemoryRunner : public FakeRunner {
 public:
  ShortOfMemoryRunner(const FakeOptions& options, long n_before, long n_fail)
      : FakeRunner(options), n_before_(n_before), n_fail_(n_fail) {}

 protected:
  void on_queue(int step) override {
    if (step > 0) return;
    n_before_failure = n_before_;
    n_failures = n_fail_;
  }

 private:
  long n_before_, n_fail_;
};

struct Outcome {
  int n_errors = 0;
  bool has_failed = false;  // the service
};

Outcome outcome_with(long n_before, long n_fail) {
  const auto runner = std::make_shared<ShortOfMemoryRunner>(
      FakeOptions{.max_sequences = 2, .works_beside_host = n_before % 2 == 1}, n_before, n_fail);
  auto service = serve(runner);
  const std::vector<Request> requests{
      {.prompt_ids = {1, 2, 3}, .max_tokens = 6, .ignore_eos = true, .n_logprobs = 2},
      {.prompt_ids = {1, 2}, .n_answers = 2, .max_tokens = 4, .ignore_eos = true},
      {.prompt_ids = {4}, .max_tokens = 5, .ignore_eos = true, .n_prompt_logprobs = 1}};
  Outcome outcome;
  std::vector<Stream> streams;
  std::vector<const Request*> submitted;
  for (const auto& request : requests) {
    try {
      streams.push_back(service->submit(request));
      submitted.push_back(&request);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::internal) << error.what();
    }
  }
  for (std::size_t i = 0; i < streams.size(); ++i) {
    const auto completion = streams[i].wait();
    for (std::int32_t a = 0; a < submitted[i]->n_answers; ++a) {
      const auto& answer = completion.answers[std::size_t(a)];
      const auto expected = answer_alone(*submitted[i], a, 0).ids;
      if (answer.finish_reason == FinishReason::error) {
        ++outcome.n_errors;
        EXPECT_FALSE(answer.error.empty());
        EXPECT_LE(answer.ids.size(), expected.size());
        EXPECT_TRUE(std::equal(answer.ids.begin(), answer.ids.end(), expected.begin()));
      } else {
        EXPECT_EQ(answer.ids, expected);
      }
    }
  }
  EXPECT_TRUE(service->drain());
  const auto metrics = service->metrics();
  EXPECT_EQ(metrics.n_finished, std::int64_t(streams.size()));
  EXPECT_EQ(metrics.n_queued_prompt_tokens, 0);
  outcome.has_failed = !service->status().error.empty();
  if (outcome.has_failed) {
    EXPECT_GT(outcome.n_errors, 0);
    EXPECT_EQ(code_of([&] { service->submit(requests[0]); }), ErrorCode::internal);
  } else {
    EXPECT_EQ(metrics.n_used_kv_blocks, 0);
  }
  return outcome;
}

TEST(Service, OutOfMemoryAtAnyAllocationEndsStreamsAndNothingElse) {
  // One allocation fails; then all do from there on.
  for (const long n_fail : {1L, 1'000'000L}) {
    int n_with_errors = 0, n_failed = 0, n_without_errors = 0;
    for (long n_before = 0; n_before < 2000 && n_without_errors < 20; ++n_before) {
      SCOPED_TRACE(testing::Message() << n_fail << " fail after " << n_before);
      const auto outcome = outcome_with(n_before, n_fail);
      n_with_errors += outcome.n_errors > 0 ? 1 : 0;
      n_failed += outcome.has_failed ? 1 : 0;
      n_without_errors += outcome.n_errors > 0 ? 0 : 1;
      if (HasFailure()) return;
    }
    // Far enough, all is done before anything fails.
    EXPECT_EQ(n_without_errors, 20);
    EXPECT_GT(n_with_errors, 50);
    EXPECT_GT(n_failed, 5);
  }
}

}  // namespace
}  // namespace nereid::engine
