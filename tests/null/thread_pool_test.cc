#include "device/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace nereid::device {
namespace {

// Not atomic: an item done twice, or two workers at one item, is a race that tsan reports and a
// count that is wrong.
struct Counts {
  std::vector<int> items;
  std::vector<int> of_worker;
};

void count(void* context, int worker, std::uint64_t begin, std::uint64_t end) {
  auto& counts = *static_cast<Counts*>(context);
  for (std::uint64_t i = begin; i < end; ++i) ++counts.items[i];
  counts.of_worker[static_cast<std::size_t>(worker)] += static_cast<int>(end - begin);
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(ThreadPool, DoesEveryItemOnce) {
  for (const int n_workers : {1, 2, 3, 8}) {
    ThreadPool pool(n_workers);
    for (std::uint64_t n_items = 0; n_items < 200; n_items += 1 + n_items / 3) {
      Counts counts{std::vector<int>(n_items),
                    std::vector<int>(static_cast<std::size_t>(n_workers))};
      pool.run(n_items, count, &counts);
      EXPECT_EQ(counts.items, std::vector<int>(n_items, 1));
      int sum = 0;
      for (const int n : counts.of_worker) sum += n;
      EXPECT_EQ(sum, static_cast<int>(n_items));
    }
  }
}

TEST(ThreadPool, OneRunAfterAnotherSeesTheOneBefore) {
  ThreadPool pool(4);
  Counts counts{std::vector<int>(64), std::vector<int>(4)};
  constexpr int kRuns = 3000;
  for (int i = 0; i < kRuns; ++i) pool.run(1 + static_cast<std::uint64_t>(i) % 64, count, &counts);
  int expected = 0;
  for (int i = 0; i < kRuns; ++i) expected += i % 64 >= 10;
  EXPECT_EQ(counts.items[10], expected);
  EXPECT_EQ(counts.items[0], kRuns);
}

TEST(ThreadPool, HelpersTakePartEvenAfterSleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    // Ends only if another thread takes an item while the first is held.
    struct Meeting {
      std::atomic<int> n_here{0};
    } meeting;
    pool.run(
        2,
        [](void* context, int, std::uint64_t begin, std::uint64_t end) {
          auto& here = static_cast<Meeting*>(context)->n_here;
          for (std::uint64_t i = begin; i < end; ++i) {
            here.fetch_add(1);
            const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
            while (here.load() < 2 && std::chrono::steady_clock::now() < deadline)
              std::this_thread::yield();
          }
        },
        &meeting);
    EXPECT_EQ(meeting.n_here.load(), 2);
  }
}

TEST(ThreadPool, IdleCostsNothing) {
  ThreadPool pool(4);
  Counts counts{std::vector<int>(64), std::vector<int>(4)};
  pool.run(64, count, &counts);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(cpu_seconds() - before, 0.05);
}

TEST(ThreadPool, StartsAndStopsUnused) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(3);
}

}  // namespace
}  // namespace nereid::device
