// Goal: run many small equal pieces of work on every cpu, thousands of times a second, with
// microseconds between them. The calling thread is worker 0. Helpers spin briefly after a run and
// then sleep, so an idle process costs nothing.
// Non-goal: tasks that wait for each other, futures, nested runs.
// Rejected: a run that waits for every helper to check in. On a shared machine a helper may lose
// its cpu for milliseconds; helpers join a run if they can, and what they do not take the others
// do.
// Rejected: one shared counter of pieces. Each worker starts on its own part, the same in every run
// of the same size, and steals only when that is done.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace nereid::device {

class ThreadPool {
 public:
  // `body(context, worker, begin, end)` does the items [begin, end).
  using Body = void (*)(void* context, int worker, std::uint64_t begin, std::uint64_t end);

  // `cpus`: where to pin helper i (cpus[i]); empty: no pinning. The calling thread is never pinned,
  // because the processes and threads it starts would inherit that.
  explicit ThreadPool(int n_workers, std::span<const int> cpus = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_workers() const { return static_cast<int>(workers_.size()); }

  // Returns when all items are done. One run at a time; `body` must not throw.
  void run(std::uint64_t n_items, Body body, void* context);

 private:
  // One cache line (two, with the neighbour's prefetch) a worker.
  struct alignas(128) Worker {
    std::atomic<std::uint64_t> next{0};  // first item of its part that nobody has taken
    std::uint64_t end = 0;
    std::uint64_t chunk = 1;
    std::atomic<std::uint32_t> asleep{0};
    std::thread thread;
  };

  void stop();
  void help(int index);
  void work(int index);
  void sleep(Worker& worker, std::uint64_t seen);

  // Low 16 bits: helpers inside the run. Bit 16: the run is open to helpers. Above: the number of
  // the run.
  alignas(128) std::atomic<std::uint64_t> state_{0};
  std::atomic<bool> stopping_{false};
  // Of the open run; written while it is closed and no helper is inside it.
  alignas(128) Body body_ = nullptr;
  void* context_ = nullptr;
  std::atomic<int> n_parts_{0};  // helpers beyond it stay out; they read it outside a run
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace nereid::device
