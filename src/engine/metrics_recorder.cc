#include "engine/metrics_recorder.h"

#include <algorithm>
#include <vector>

namespace nereid::engine {

namespace {

// Each about twice the one before.
const std::vector<double> kStepBounds{0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
                                      0.1,   0.2,   0.5,   1,    2,    5};
const std::vector<double> kRequestBounds{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1,
                                         2,    5,    10,   20,  50,  100, 200};

Histogram empty(const std::vector<double>& bounds_s) {
  return {.bounds_s = bounds_s, .counts = std::vector<std::int64_t>(bounds_s.size() + 1, 0)};
}

void add(Histogram& histogram, Clock::duration time) {
  const double seconds = std::chrono::duration<double>(time).count();
  const auto bucket = std::ranges::lower_bound(histogram.bounds_s, seconds);
  ++histogram.counts[std::size_t(bucket - histogram.bounds_s.begin())];
  histogram.sum_s += seconds;
}

}  // namespace

MetricsRecorder::MetricsRecorder() {
  metrics_.queue_s = empty(kRequestBounds);
  metrics_.first_token_s = empty(kRequestBounds);
  metrics_.between_tokens_s = empty(kStepBounds);
  metrics_.request_s = empty(kRequestBounds);
}

void MetricsRecorder::record_begin(Clock::duration queued) {
  ++metrics_.n_running;
  add(metrics_.queue_s, queued);
}

void MetricsRecorder::record_first_token(Clock::duration since_submit) {
  add(metrics_.first_token_s, since_submit);
}

void MetricsRecorder::record_next_token(Clock::duration since_last) {
  add(metrics_.between_tokens_s, since_last);
}

void MetricsRecorder::record_answer_end(FinishReason reason) {
  ++metrics_.n_ended_answers[std::size_t(reason)];
}

void MetricsRecorder::record_request_end(Clock::duration since_submit, bool had_begun) {
  if (had_begun) --metrics_.n_running;
  ++metrics_.n_finished;
  add(metrics_.request_s, since_submit);
}

void MetricsRecorder::read(const Generator& generator) {
  const Counts& counts = generator.counts();
  metrics_.n_prompt_tokens = counts.n_prompt_tokens;
  metrics_.n_generated_tokens = counts.n_generated_tokens;
  metrics_.n_steps = counts.n_steps;
  metrics_.n_failed_steps = counts.n_failed_steps;
  const auto& scheduler = generator.scheduler();
  metrics_.n_cached_tokens = scheduler.n_prefix_hit_tokens();
  metrics_.n_preemptions = scheduler.n_preemptions();
  metrics_.n_running_answers = scheduler.n_running();
  metrics_.n_kv_blocks = scheduler.pool().n_blocks();
  metrics_.n_used_kv_blocks = scheduler.pool().n_used_blocks();
  metrics_.device_memory = generator.memory_use();
}

}  // namespace nereid::engine
