#include "program/meeting.h"

#include <utility>

#include "base/error.h"

namespace nereid::program {

std::vector<std::int64_t> Meeting::all(std::int64_t rank, std::int64_t number) {
  std::unique_lock lock(mutex_);
  coming_.resize(n_ranks_);
  coming_[static_cast<std::size_t>(rank)] = number;
  const auto which = n_held_;
  if (++n_come_ == n_ranks_) {
    // Nobody comes to the next one before all have left this: each needs its answer first.
    last_ = std::exchange(coming_, {});
    n_come_ = 0;
    ++n_held_;
    changed_.notify_all();
    return last_;
  }
  changed_.wait(lock, [&] { return n_held_ != which || is_given_up_; });
  if (n_held_ == which) throw Error("another rank of the model could not be set up");
  return last_;
}

void Meeting::give_up() {
  const std::lock_guard lock(mutex_);
  is_given_up_ = true;
  changed_.notify_all();
}

}  // namespace nereid::program
