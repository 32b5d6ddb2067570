// A step of the engine's inner loop takes no memory: counted on the processor, over the whole of
// operator new.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <vector>

#include "device/cpu/cpu_device.h"
#include "engine/runner.h"
#include "model/config.h"
#include "sched/scheduler.h"

namespace {
std::atomic<long> n_allocations{0};
}

// None is inlined: gcc would take the malloc() or free() in a caller for a mistake.
[[gnu::noinline]] void* operator new(std::size_t size) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
// std::stable_sort asks like this for its buffer.
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace nereid::engine {
namespace {

TEST(Step, AllocatesNothing) {
  const auto dir = std::filesystem::path(NEREID_SOURCE_DIR) / "tests" / "fixtures" / "llama3";
  device::CpuDevice device(2);
  RunnerOptions options;
  options.model_dir = dir;
  options.max_sequences = 2;
  const auto runner = Runner::create(device, model::ModelConfig::load(dir), options);

  sched::Scheduler scheduler(runner->limits());
  std::vector<sched::Sequence> sequences;
  sequences.reserve(2);
  for (int i = 0; i < 2; ++i) {
    sequences.emplace_back(i, std::vector<std::int32_t>{3, 1, 4, 1, 5}, 100);
    scheduler.add(sequences.back());
  }

  const std::vector<SamplingRow> sampling(2);
  const auto step = [&] {
    StepRequest request;
    request.batch = &scheduler.schedule();
    request.sampling =
        std::span(sampling).first(static_cast<std::size_t>(request.batch->n_logit_rows));
    scheduler.complete(runner->step(request).ids);
  };
  // The prompts, and the first decode, which makes its plan.
  for (int i = 0; i < 3; ++i) step();
  const long before = n_allocations.load();
  // Across the end of a KV block too: 5 + 90 tokens.
  for (int i = 0; i < 90; ++i) step();
  EXPECT_EQ(n_allocations.load() - before, 0);
}

}  // namespace
}  // namespace nereid::engine
