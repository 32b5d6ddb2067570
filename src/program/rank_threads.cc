#include "program/rank_threads.h"

#include <fmt/ranges.h>

#include <utility>

#include "base/error.h"

namespace nereid::program {

namespace {

using Clock = std::chrono::steady_clock;
// How often progress is looked at.
constexpr std::chrono::milliseconds kPeriod{100};

}  // namespace

RankThreads::RankThreads(Watch watch)
    : watch_(std::move(watch)), is_running_(watch_.names.size(), false) {
  for (std::size_t rank = 0; rank < watch_.names.size(); ++rank)
    threads_.emplace_back([this, rank] { serve(rank); });
}

RankThreads::~RankThreads() {
  {
    const std::lock_guard lock(mutex_);
    is_closing_ = true;
  }
  changed_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void RankThreads::serve(std::size_t rank) {
  std::unique_lock lock(mutex_);
  for (std::uint64_t n_done = 0;; ++n_done) {
    changed_.wait(lock, [&] { return is_closing_ || n_runs_ > n_done; });
    if (n_runs_ == n_done) return;
    const auto work = work_;
    lock.unlock();
    try {
      work(rank);
      lock.lock();
    } catch (...) {
      lock.lock();
      note_failure(rank);
    }
    is_running_[rank] = false;
    --n_running_;
    changed_.notify_all();
  }
}

// The first one is the cause: the others are told to stop by it.
void RankThreads::note_failure(std::size_t rank) {
  if (failure_) return;
  try {
    throw;
  } catch (const Error& error) {
    failure_ =
        std::make_exception_ptr(Error(error.code(), "{}: {}", watch_.names[rank], error.what()));
  } catch (...) {
    failure_ = std::current_exception();
  }
  watch_.stop();
}

void RankThreads::run(std::function<void(std::size_t)> work) {
  std::unique_lock lock(mutex_);
  if (n_running_ > 0)
    throw Error(ErrorCode::device, "{} did not come back from a step; the model runs no more steps",
                names_of_running());
  failure_ = nullptr;
  work_ = std::move(work);
  n_running_ = threads_.size();
  is_running_.assign(threads_.size(), true);
  ++n_runs_;
  changed_.notify_all();
  const auto is_done = [&] { return n_running_ == 0; };
  auto seen = watch_.progress();
  auto since = Clock::now();
  bool is_stopped = false;
  while (!changed_.wait_for(lock, kPeriod, is_done)) {
    const auto now = Clock::now();
    if (const auto progress = watch_.progress(); progress != std::exchange(seen, progress))
      since = now;
    if (now - since < watch_.deadline) continue;
    if (is_stopped) break;  // nobody keeps it from coming back any more
    watch_.stop();
    is_stopped = true;
    since = now;
  }
  if (is_stopped && !failure_) {
    const auto who =
        n_running_ > 0 ? names_of_running() : fmt::format("{}", fmt::join(watch_.names, ", "));
    failure_ =
        std::make_exception_ptr(Error(ErrorCode::device, "{}: no progress in a step for {} s", who,
                                      std::chrono::duration<double>(watch_.deadline).count()));
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

std::string RankThreads::names_of_running() const {
  std::vector<std::string> names;
  for (std::size_t rank = 0; rank < is_running_.size(); ++rank)
    if (is_running_[rank]) names.push_back(watch_.names[rank]);
  return fmt::format("{}", fmt::join(names, " and "));
}

}  // namespace nereid::program
