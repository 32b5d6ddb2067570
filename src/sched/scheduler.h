// Goal: continuous batching: what to run in each step, so that running sequences never wait for
// prompts and a prompt that does not fit now waits instead of failing. First come, first served. No
// livelock: every waiting sequence came later than every running one, and the oldest is preempted
// only where no other runs, which add() made impossible.
// Non-goal: when a sequence ends (the engine's finish()), priorities, sharing of prefixes.
// Rejected: swapping preempted KV to the host; computing it again costs less than the code.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "sched/block_pool.h"
#include "sched/limits.h"
#include "sched/sequence.h"
#include "sched/step_batch.h"

namespace nereid::sched {

class Scheduler {
 public:
  explicit Scheduler(const Limits& limits);

  // The caller owns the sequence and keeps it, at its address, until finish(). An Error says why it
  // could never run: longer than the context, or more blocks than there are.
  void add(Sequence& sequence);

  // The next step; n_tokens 0 when nothing is left to do. The result lives until the next call.
  const StepBatch& schedule();

  // The step was run: `sampled_ids` [n_sample_rows] are appended to their sequences.
  void complete(std::span<const std::int32_t> sampled_ids);

  // The sequence leaves, whatever its state; its blocks return. Not while a step is in flight. The
  // engine must call it for a sequence that is_exhausted() before the next schedule().
  void finish(Sequence& sequence);

  bool has_work() const { return !running_.empty() || !waiting_.empty(); }
  std::int32_t n_running() const { return std::int32_t(running_.size()); }
  std::int32_t n_waiting() const { return std::int32_t(waiting_.size()); }
  std::int64_t n_preemptions() const { return n_preemptions_; }
  const BlockPool& pool() const { return pool_; }

  // Every invariant above, over all sequences; for tests and idle moments.
  void check_integrity() const;

 private:
  static bool is_scheduled(const Sequence& sequence);  // in the batch at hand
  void begin_batch();
  void end_batch();
  void schedule_decodes();
  void schedule_prompts();
  bool admit_next();
  bool grow_to(Sequence& sequence, std::int32_t n_tokens);
  void preempt_newest();
  void release_blocks(Sequence& sequence);
  void append_to_batch(Sequence& sequence, std::int32_t n_new_tokens);

  const Limits limits_;
  BlockPool pool_;
  std::vector<Sequence*> running_;  // oldest first
  std::deque<Sequence*> waiting_;   // oldest first, each later than all of running_
  StepBatch batch_;
  std::vector<std::int32_t> score_rows_;  // rows that follow the sampled ones in logit_rows
  std::vector<Sequence*> score_row_sequences_;
  std::vector<std::int32_t> n_row_blocks_;  // [max_sequences] entries that may not be 0
  std::uint64_t n_arrivals_ = 0;
  std::int64_t n_preemptions_ = 0;
  bool in_flight_ = false;
};

}  // namespace nereid::sched
