// Goal: requests in, tokens and text out: continuous batching of many requests over one Runner, a
// step at a time.
// Non-goal: opening models and devices (Session), which sequences run (sched), computing (Runner).
// Rejected: text inside the scheduler's sequences. A preempted sequence is computed again; its text
// is not.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/runner.h"
#include "engine/stats.h"
#include "nereid/request.h"
#include "sched/scheduler.h"
#include "tokenizer/tokenizer.h"

namespace nereid::engine {

class Generator {
 public:
  // `tokenizer` may be null: then requests bring ids and completions have no text. `eos_ids` end a
  // request unless it says ignore_eos.
  Generator(Runner& runner, const tokenizer::Tokenizer* tokenizer, std::vector<TokenId> eos_ids,
            Clock::time_point opened = Clock::now());
  ~Generator();

  RequestId submit(const Request& request);
  bool step(const ProgressCallback& on_progress);
  void cancel(RequestId request);
  Completion take(RequestId request);
  // The request leaves without a report or a result. Not from within a callback.
  void withdraw(RequestId request);

  Stats stats() const;
  const sched::Scheduler& scheduler() const { return scheduler_; }

 private:
  struct Active;

  Active& active_of(const sched::Sequence& sequence) { return *active_[sequence.id()]; }
  void finish(Active& active, FinishReason reason);
  void report_early_ends(const ProgressCallback& on_progress);
  void end_early(Active& active, FinishReason reason, std::string error,
                 const ProgressCallback& on_progress);
  void release_slots_of_preempted();
  void assign_slot(Active& active);
  void fill_sampling(const sched::StepBatch& batch);
  void append_token(Active& active, TokenId id, Clock::time_point now,
                    const ProgressCallback& on_progress);

  Runner& runner_;
  const tokenizer::Tokenizer* tokenizer_;
  std::vector<TokenId> eos_ids_;
  sched::Scheduler scheduler_;
  StatsCollector stats_;

  std::vector<std::unique_ptr<Active>> active_;  // by sequence id; null: free for the next request
  std::vector<std::uint64_t> free_ids_;
  std::unordered_map<RequestId, std::unique_ptr<Active>> finished_;
  std::unordered_map<RequestId, std::uint64_t> ids_;  // of unfinished requests
  RequestId n_submitted_ = 0;

  std::vector<std::int32_t> free_slots_;  // of the Runner's tables
  std::int64_t n_penalised_ = 0;          // active requests with a penalty
  std::int64_t n_preemptions_seen_ = 0;
  bool has_early_ends_ = false;
  Clock::time_point last_ids_;             // when the step before gave its ids; none after a pause
  std::string new_text_;                   // of the token at hand
  std::vector<SamplingRow> sampling_;      // [L]
  std::vector<std::int32_t> token_slots_;  // [T]
};

}  // namespace nereid::engine
