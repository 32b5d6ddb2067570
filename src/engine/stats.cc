#include "engine/stats.h"

#include <fstream>
#include <string>

#include "base/quantile.h"

namespace nereid::engine {

namespace {

constexpr std::size_t kMaxSamples = std::size_t{1} << 16;

double to_ms(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

double per_second(double amount, Clock::duration time) {
  const double seconds = std::chrono::duration<double>(time).count();
  return seconds > 0 ? amount / seconds : 0;
}

// 0 where nothing was timed yet.
double quantile_or_zero(const std::vector<double>& samples, double q) {
  return samples.empty() ? 0 : quantile(samples, q);
}

}  // namespace

std::int64_t peak_memory_bytes() {
  // Not getrusage: its maximum survives exec, and would be that of the program that started this
  // one.
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    std::int64_t kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib * 1024;
  }
  return 0;
}

StatsCollector::StatsCollector(Clock::time_point opened, std::int64_t weight_bytes)
    : opened_(opened), weight_bytes_(weight_bytes) {
  // Reserved here so that a step allocates nothing; untouched pages cost no memory.
  ttft_ms_.reserve(kMaxSamples);
  itl_ms_.reserve(kMaxSamples);
  host_ms_.reserve(kMaxSamples);
}

void StatsCollector::add_sample(std::vector<double>& samples, std::size_t& next,
                                Clock::duration time) {
  const double ms = to_ms(time);
  if (samples.size() < kMaxSamples) {
    samples.push_back(ms);
    return;
  }
  samples[next] = ms;
  next = (next + 1) % kMaxSamples;
}

void StatsCollector::record_step(Clock::duration time, std::int64_t n_prompt_tokens,
                                 std::int64_t n_decode_tokens) {
  ++counts_.n_steps;
  counts_.n_prompt_tokens += n_prompt_tokens;
  if (n_prompt_tokens > 0) {
    prefill_time_ += time;
    return;
  }
  decode_time_ += time;
  n_decode_step_tokens_ += n_decode_tokens;
  ++n_decode_steps_;
}

void StatsCollector::record_first_token(Clock::time_point submitted, Clock::time_point now) {
  if (counts_.n_generated_tokens == 0) open_to_first_token_ = now - opened_;
  ++counts_.n_generated_tokens;
  add_sample(ttft_ms_, next_ttft_, now - submitted);
}

void StatsCollector::record_next_token(Clock::time_point previous, Clock::time_point now) {
  ++counts_.n_generated_tokens;
  add_sample(itl_ms_, next_itl_, now - previous);
}

void StatsCollector::record_host(Clock::duration time) { add_sample(host_ms_, next_host_, time); }

Stats StatsCollector::summary() const {
  Stats stats;
  stats.ttft_ms = quantile_or_zero(ttft_ms_, 0.5);
  stats.open_to_first_token_ms = to_ms(open_to_first_token_);
  stats.itl_ms_median = quantile_or_zero(itl_ms_, 0.5);
  stats.itl_ms_p99 = quantile_or_zero(itl_ms_, 0.99);
  constexpr double kUsPerMs = 1e3;
  stats.host_us_median = kUsPerMs * quantile_or_zero(host_ms_, 0.5);
  stats.prefill_tokens_per_s = per_second(double(counts_.n_prompt_tokens), prefill_time_);
  stats.decode_tokens_per_s = per_second(double(n_decode_step_tokens_), decode_time_);
  stats.weight_gb_per_s =
      per_second(double(weight_bytes_) * double(n_decode_steps_) / 1e9, decode_time_);
  stats.n_prompt_tokens = counts_.n_prompt_tokens;
  stats.n_generated_tokens = counts_.n_generated_tokens;
  stats.n_steps = counts_.n_steps;
  stats.peak_memory_bytes = peak_memory_bytes();
  return stats;
}

}  // namespace nereid::engine
