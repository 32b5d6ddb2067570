// Goal: what a service has done so far and what it is doing, all numbers of one moment.
// Non-goal: how they are written for a monitoring system; the names of its metrics.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "nereid/memory_use.h"
#include "nereid/request.h"

namespace nereid {

// Times in seconds. counts[i]: those of at most bounds[i] and more than the bound before; the last
// one of counts: those above all bounds.
struct Histogram {
  std::vector<double> bounds_s = {};      // [n]
  std::vector<std::int64_t> counts = {};  // [n + 1]
  double sum_s = 0;
  std::int64_t n() const {
    std::int64_t total = 0;
    for (const auto count : counts) total += count;
    return total;
  }
};

struct Metrics {
  // Requests: submitted = queued + running + finished.
  std::int64_t n_submitted = 0;
  std::int64_t n_refused = 0;  // more than the queue holds, or draining; not submitted
  std::int64_t n_queued = 0;   // none of its tokens was chosen
  std::int64_t n_running = 0;
  std::int64_t n_finished = 0;
  // Answers that ended, by FinishReason.
  std::array<std::int64_t, kNFinishReasons> n_ended_answers = {};

  std::int64_t n_queued_prompt_tokens = 0;  // of queued requests
  std::int64_t n_prompt_tokens = 0;         // computed
  std::int64_t n_cached_tokens = 0;         // of prompts, found in the cache and not computed
  std::int64_t n_generated_tokens = 0;
  std::int64_t n_steps = 0;
  std::int64_t n_failed_steps = 0;
  std::int64_t n_preemptions = 0;      // answers put back because the cache was full
  std::int64_t n_running_answers = 0;  // in the steps
  std::int64_t n_kv_blocks = 0;
  std::int64_t n_used_kv_blocks = 0;  // held by answers that run
  MemoryUse device_memory = {};

  Histogram queue_s = {};           // submitted to the first step's end
  Histogram first_token_s = {};     // submitted to its first token
  Histogram between_tokens_s = {};  // of an answer
  Histogram request_s = {};         // submitted to finished
};

}  // namespace nereid
