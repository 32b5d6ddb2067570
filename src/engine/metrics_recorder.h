// Goal: a service's Metrics kept up to date by the thread that computes.
// Non-goal: handing them to other threads (ServiceCore).
#pragma once

#include <cstdint>

#include "engine/generator.h"
#include "nereid/metrics.h"

namespace nereid::engine {

class MetricsRecorder {
 public:
  MetricsRecorder();

  void record_begin(Clock::duration queued);
  void record_first_token(Clock::duration since_submit);
  void record_next_token(Clock::duration since_last);
  void record_answer_end(FinishReason reason);
  void record_request_end(Clock::duration since_submit, bool had_begun);
  // What the generator counts itself.
  void read(const Generator& generator);

  // All but what is known where requests come in: n_submitted, n_refused, what is queued.
  const Metrics& metrics() const { return metrics_; }

 private:
  Metrics metrics_;
};

}  // namespace nereid::engine
