// Goal: what ranks of one model must know of each other while each is set up on a thread of its
// own: every rank brings a number, and all get all of them. Non-goal: steps (parallel_program.h).
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace nereid::program {

class Meeting {
 public:
  explicit Meeting(std::int64_t n_ranks) : n_ranks_(static_cast<std::size_t>(n_ranks)) {}

  // In the order of the ranks; waits until all have come. Every rank calls it as often. An Error
  // where one has given up.
  std::vector<std::int64_t> all(std::int64_t rank, std::int64_t number);
  // Nobody waits for this rank any more.
  void give_up();

 private:
  const std::size_t n_ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::int64_t> coming_, last_;
  std::size_t n_come_ = 0;
  std::uint64_t n_held_ = 0;
  bool is_given_up_ = false;
};

}  // namespace nereid::program
