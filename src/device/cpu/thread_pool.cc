#include "device/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "base/error.h"

namespace nereid::device {

namespace {

constexpr std::uint64_t kInsideMask = 0xffff;
constexpr std::uint64_t kOpen = 1u << 16;
constexpr std::uint64_t kRun = 1u << 17;
// Longer than the gap between two launches of a step, shorter than anyone would notice on an idle
// machine.
constexpr auto kSpin = std::chrono::microseconds(80);
// A part is taken in this many pieces: few enough to cost nothing, enough for others to steal from
// a slow worker.
constexpr std::uint64_t kChunksPerPart = 8;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A thread that wakes on a full machine, as a server's for input and output does after each step,
// is given the processor of who counts least. That should be a helper, whose part the others take,
// and not the thread that starts the runs: all would wait for it.
void give_way() {
  (void)::setpriority(PRIO_PROCESS, id_t(::gettid()), ::getpriority(PRIO_PROCESS, 0) + 1);
}

// Calls `done` until it is true or the time is up; the clock is read rarely because that costs as
// much as a check.
template <typename Done>
bool spin_until(Done done) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

}  // namespace

ThreadPool::ThreadPool(int n_workers, std::span<const int> cpus) {
  NEREID_CHECK(n_workers >= 1 && n_workers < static_cast<int>(kInsideMask), "n_workers {}",
               n_workers);
  for (int i = 0; i < n_workers; ++i) workers_.push_back(std::make_unique<Worker>());
  try {
    for (int i = 1; i < n_workers; ++i) {
      workers_[i]->thread = std::thread([this, i] { help(i); });
      if (cpus.size() >= static_cast<std::size_t>(n_workers) && cpus[i] < CPU_SETSIZE) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpus[i], &set);
        // Pinning is for speed only: where it is forbidden the thread runs unpinned.
        (void)::pthread_setaffinity_np(workers_[i]->thread.native_handle(), sizeof(set), &set);
      }
    }
  } catch (const std::system_error& error) {
    const int n_started =
        static_cast<int>(std::count_if(workers_.begin(), workers_.end(), [](const auto& worker) {
          return worker->thread.joinable();
        }));
    stop();
    throw Error(ErrorCode::device,
                "cannot start {} threads (started {}): {}; ask for fewer with --threads", n_workers,
                n_started, error.what());
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stopping_.store(true);
  state_.fetch_add(kRun);
  for (const auto& worker : workers_) {
    worker->asleep.store(0);
    worker->asleep.notify_one();
  }
  for (const auto& worker : workers_)
    if (worker->thread.joinable()) worker->thread.join();
}

void ThreadPool::run(std::uint64_t n_items, Body body, void* context) {
  if (n_items == 0) return;
  const int n_parts = static_cast<int>(std::min<std::uint64_t>(n_items, workers_.size()));
  if (n_parts == 1) {
    body(context, 0, 0, n_items);
    return;
  }
  body_ = body;
  context_ = context;
  n_parts_.store(n_parts, std::memory_order_relaxed);
  const std::uint64_t share = n_items / n_parts;
  const std::uint64_t remainder = n_items % n_parts;
  std::uint64_t begin = 0;
  for (int i = 0; i < n_parts; ++i) {
    Worker& worker = *workers_[i];
    const std::uint64_t size = share + (static_cast<std::uint64_t>(i) < remainder ? 1 : 0);
    worker.next.store(begin, std::memory_order_relaxed);
    worker.end = begin + size;
    worker.chunk = std::max<std::uint64_t>(1, size / kChunksPerPart);
    begin += size;
  }

  // Sequentially consistent, like the store and load in sleep(): either the helper sees the run or
  // we see it asleep.
  state_.fetch_add(kRun | kOpen);
  for (int i = 1; i < n_parts; ++i) {
    Worker& worker = *workers_[i];
    if (worker.asleep.load() != 0) {
      worker.asleep.store(0);
      worker.asleep.notify_one();
    }
  }
  work(0);
  // Every item is taken; helpers inside finish theirs, and no other gets in.
  state_.fetch_sub(kOpen, std::memory_order_acq_rel);
  const auto all_left = [this] {
    return (state_.load(std::memory_order_acquire) & kInsideMask) == 0;
  };
  while (!spin_until(all_left)) std::this_thread::yield();
}

void ThreadPool::work(int index) {
  // Own part first, then the neighbours'.
  const int n_parts = n_parts_.load(std::memory_order_relaxed);
  for (int i = 0; i < n_parts; ++i) {
    Worker& part = *workers_[(index + i) % n_parts];
    while (part.next.load(std::memory_order_relaxed) < part.end) {
      const std::uint64_t begin = part.next.fetch_add(part.chunk, std::memory_order_relaxed);
      if (begin >= part.end) break;
      body_(context_, index, begin, std::min(begin + part.chunk, part.end));
    }
  }
}

void ThreadPool::help(int index) {
  give_way();
  Worker& self = *workers_[index];
  std::uint64_t seen = 0;  // the number of the last run this helper knows
  const auto has_news = [&] {
    return state_.load(std::memory_order_acquire) / kRun != seen ||
           stopping_.load(std::memory_order_relaxed);
  };
  while (true) {
    if (!spin_until(has_news)) sleep(self, seen);
    if (stopping_.load()) return;
    const std::uint64_t now = state_.load(std::memory_order_acquire);
    if (now / kRun == seen) continue;
    seen = now / kRun;
    if ((now & kOpen) == 0 || index >= n_parts_.load(std::memory_order_relaxed)) continue;
    // The run may have closed, or another opened, since the load: the value got here is the one
    // that counts.
    const std::uint64_t joined = state_.fetch_add(1, std::memory_order_acq_rel);
    if ((joined & kOpen) != 0) {
      seen = joined / kRun;
      work(index);
    }
    state_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::sleep(Worker& worker, std::uint64_t seen) {
  worker.asleep.store(1);
  if (state_.load() / kRun == seen && !stopping_.load()) worker.asleep.wait(1);
  worker.asleep.store(0);
}

}  // namespace nereid::device
