// Goal: how far the kernel compiler is, on stderr: a bar where a person watches, a line every few
// seconds where a log does.
// Non-goal: what it says when it fails (compile_client).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace nereid::kernel {

class CompileProgress {
 public:
  using Clock = std::chrono::steady_clock;

  explicit CompileProgress(bool is_terminal) : is_terminal_(is_terminal) {}

  // Takes one line of the compiler's, {"done": 3, "total": 25, "kernel": "rms_norm"}, and gives
  // what to print now; anything else is passed over.
  std::string take(std::string_view line, Clock::time_point now);
  // To be asked now and then: a log shows that work goes on also while one kernel takes long.
  std::string tick(Clock::time_point now);
  // Removes the bar, or tells a log that was told of the beginning of the end.
  std::string finish(Clock::time_point now);

  std::int64_t n_done() const { return n_done_; }
  std::int64_t n_total() const { return n_total_; }

 private:
  std::string bar(std::string_view kernel) const;
  std::string log_line(Clock::time_point now);

  bool is_terminal_;
  bool is_shown_ = false;
  std::int64_t n_done_ = 0;
  std::int64_t n_total_ = 0;
  Clock::time_point started_;
  Clock::time_point last_line_;
};

}  // namespace nereid::kernel
