// Goal: a model's speed as a server meets it: requests of different lengths that come and go,
// through a Service, and what prompts alone and answers alone would reach on the same machine.
// Non-goal: sockets and protocols.
// Rejected: a rate of its own for each kind of step, from a trace: it would not see what is lost
// between steps.
#pragma once

#include <cstdint>
#include <string>

#include "nereid/options.h"

namespace nereid::measure {

struct ServeWorkload {
  std::int64_t n_requests = 512;
  std::int64_t n_at_once = 64;  // at most so many are unanswered; the others wait at the client
  double requests_per_s = 0;    // of a Poisson process; 0: each as soon as there is room
  // Lengths are uniform between these.
  std::int64_t min_prompt_tokens = 16, max_prompt_tokens = 1024;
  std::int64_t min_answer_tokens = 32, max_answer_tokens = 256;
  std::uint64_t seed = 1;
};

struct ServeBenchOptions {
  Options engine;  // max_sequences follows from the workload
  ServeWorkload workload;
};

struct ServeBenchResult {
  std::string device, mode;
  std::int64_t n_prompt_tokens = 0, n_answer_tokens = 0;
  double time_s = 0;
  double tokens_per_s = 0;  // prompts' and answers'
  // The same prompts with answers of one token, and as many answers at once as may run, on prompts
  // of the mean length.
  double prefill_tokens_per_s = 0, decode_tokens_per_s = 0;
  // The time that the two rates alone would take, of the time it took.
  double part_of_alone = 0;
  double ttft_ms_median = 0, ttft_ms_p99 = 0;  // from its arrival
  double itl_ms_median = 0, itl_ms_p99 = 0;    // between two tokens of an answer
  std::int64_t n_steps = 0, n_preemptions = 0, n_cached_tokens = 0;
};

// An Error where the model cannot be opened or a request fails.
ServeBenchResult run_serve_bench(const ServeBenchOptions& options);

}  // namespace nereid::measure
