// Goal: a thread for each rank of a model, which do the same thing at the same time; the caller
// watches them. One that fails or stands still ends it for all.
// Non-goal: what they do.
// Rejected: the first rank on the caller's thread. Whoever waits in a kernel for a rank that does
// not come cannot look at a clock.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace nereid::program {

class RankThreads {
 public:
  struct Watch {
    std::vector<std::string> names;             // of the ranks, for errors
    std::function<std::uint64_t()> progress;    // of all ranks, a number that grows
    std::function<void()> stop;                 // ends what ranks wait for each other with
    std::chrono::milliseconds deadline{60000};  // without progress
  };
  explicit RankThreads(Watch watch);
  // Waits for a rank that does not come back.
  ~RankThreads();

  // `work`(rank) on all; returns when all have returned. The first Error that one threw, with its
  // name; or one that names those that made no progress until the deadline. `work` owns what it
  // uses: a rank that does not come back uses it for longer than this call.
  // While one has not come back, run() throws.
  void run(std::function<void(std::size_t rank)> work);

 private:
  void serve(std::size_t rank);
  void note_failure(std::size_t rank);
  std::string names_of_running() const;

  const Watch watch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void(std::size_t)> work_;
  std::vector<bool> is_running_;
  std::size_t n_running_ = 0;
  std::uint64_t n_runs_ = 0;
  bool is_closing_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

}  // namespace nereid::program
