#include "kernel/compile_progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"

namespace nereid::kernel {

namespace {

constexpr int kBarWidth = 30;
constexpr std::size_t kMaxKernelName = 30;
constexpr std::chrono::seconds kBetweenLines{5};

std::int64_t seconds_between(CompileProgress::Clock::time_point begin,
                             CompileProgress::Clock::time_point end) {
  return std::chrono::duration_cast<std::chrono::seconds>(end - begin).count();
}

}  // namespace

std::string CompileProgress::take(std::string_view line, Clock::time_point now) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("done") || !json.contains("total")) return {};
  if (n_total_ == 0) started_ = now;
  n_total_ = std::max<std::int64_t>(1, json_field<std::int64_t>(json, "total", "progress"));
  n_done_ =
      std::clamp<std::int64_t>(json_field<std::int64_t>(json, "done", "progress"), 0, n_total_);
  if (!is_terminal_) {
    // Where all was compiled before, a log has nothing to learn.
    if (!is_shown_ && n_done_ < n_total_) return log_line(now);
    return tick(now);
  }
  is_shown_ = true;
  return bar(json_field_or<std::string>(json, "kernel", "", "progress"));
}

std::string CompileProgress::tick(Clock::time_point now) {
  if (is_terminal_ || !is_shown_ || now - last_line_ < kBetweenLines) return {};
  return log_line(now);
}

std::string CompileProgress::finish(Clock::time_point now) {
  if (!is_shown_) return {};
  if (is_terminal_) return "\r\033[K";
  return log_line(now);
}

std::string CompileProgress::bar(std::string_view kernel) const {
  const auto filled = static_cast<int>(n_done_ * kBarWidth / n_total_);
  return fmt::format("\r\033[Kcompiling kernels [{:=<{}}{: <{}}] {}/{} {}", "", filled, "",
                     kBarWidth - filled, n_done_, n_total_, kernel.substr(0, kMaxKernelName));
}

std::string CompileProgress::log_line(Clock::time_point now) {
  is_shown_ = true;
  last_line_ = now;
  return fmt::format("nereid: compiling kernels, once for this model: {} of {}, {} s\n", n_done_,
                     n_total_, seconds_between(started_, now));
}

}  // namespace nereid::kernel
