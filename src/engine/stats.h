// Goal: the times of a run as the numbers people compare: first token, gap between tokens,
// tokens/s, bytes/s.
// Non-goal: profiling kernels; that is a trace's work.
// Rejected: keeping every gap for ever. The newest 64 Ki are enough for a p99 and bound the memory
// of a server.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/clock.h"
#include "nereid/engine.h"

namespace nereid::engine {

struct Counts {
  std::int64_t n_prompt_tokens = 0;
  std::int64_t n_generated_tokens = 0;
  std::int64_t n_steps = 0;
  std::int64_t n_failed_steps = 0;
};

class StatsCollector {
 public:
  StatsCollector(Clock::time_point opened, std::int64_t weight_bytes);

  // One step that computed `n_prompt_tokens` (0: a decode step) and fed back `n_decode_tokens`
  // generated ones.
  void record_step(Clock::duration time, std::int64_t n_prompt_tokens,
                   std::int64_t n_decode_tokens);
  void record_first_token(Clock::time_point submitted, Clock::time_point now);
  void record_next_token(Clock::time_point previous, Clock::time_point now);
  // What the host did between the waits of two steps.
  void record_host(Clock::duration time);
  void record_failed_step() { ++counts_.n_failed_steps; }

  Stats summary() const;
  const Counts& counts() const { return counts_; }

 private:
  static void add_sample(std::vector<double>& samples, std::size_t& next, Clock::duration time);

  Clock::time_point opened_;
  std::int64_t weight_bytes_;
  std::vector<double> ttft_ms_;
  std::vector<double> itl_ms_;
  std::size_t next_ttft_ = 0;  // where the next sample goes once a vector is full
  std::vector<double> host_ms_;
  std::size_t next_itl_ = 0;
  std::size_t next_host_ = 0;
  Clock::duration open_to_first_token_{};
  Clock::duration prefill_time_{};
  Clock::duration decode_time_{};
  Counts counts_;
  std::int64_t n_decode_step_tokens_ = 0;
  std::int64_t n_decode_steps_ = 0;
};

// The largest resident set this process has had.
std::int64_t peak_memory_bytes();

}  // namespace nereid::engine
