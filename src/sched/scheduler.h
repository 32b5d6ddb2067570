// Goal: continuous batching: what to run in each step, so that running sequences never wait for
// prompts and a prompt that does not fit now waits instead of failing. The next step is made while
// one is in flight: what that one chooses is named by its row. First come, first served, but that
// whoever waits for a prefix another is computing is passed. No livelock: the oldest of all runs,
// or waits for an older start of its prompt that is under way; nobody is admitted past one that
// lacks blocks; the oldest running is preempted only where no other runs, which add() made
// impossible.
// Non-goal: when a sequence ends (the engine's finish()), priorities.
// Rejected: swapping preempted KV to the host; computing it again costs less than the code.
// Rejected: preempting while a step is in flight. Its ids would be thrown away; completing it first
// costs one short pause where memory is short anyway.
#pragma once

#include <array>
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

  // The next step, in flight from now on unless it is empty (n_tokens 0): nothing is left to do, or
  // not before a step in flight is completed. At most kMaxStepsInFlight: a step is completed before
  // the second next is made. The result lives until then.
  static constexpr std::int32_t kMaxStepsInFlight = 2;
  const StepBatch& schedule();

  // The oldest step in flight was run: `sampled_ids` [n_sample_rows] are appended to their
  // sequences.
  void complete(std::span<const std::int32_t> sampled_ids);

  // The sequence leaves, whatever its state, and steps in flight forget it. Its blocks return at
  // once: the device does steps in order, so the next to own them write after those that still
  // read. The engine must call it for a sequence that is_exhausted() before the next schedule().
  void finish(Sequence& sequence);

  // Steps in flight failed: they count as never made. Their sequences keep what was cached before
  // and would be computed from there.
  void fail();
  // Oldest first.
  std::vector<Sequence*> in_flight_sequences() const;

  bool has_work() const { return !running_.empty() || !waiting_.empty(); }
  std::int32_t n_steps_in_flight() const { return n_in_flight_; }
  std::int32_t n_running() const { return std::int32_t(running_.size()); }
  std::int32_t n_waiting() const { return std::int32_t(waiting_.size()); }
  std::int64_t n_waiting_tokens() const { return n_waiting_tokens_; }  // to be computed
  std::int64_t n_preemptions() const { return n_preemptions_; }
  // Of all sequences that ever ran; and how many of these tokens were in the cache.
  std::int64_t n_prompt_tokens() const { return n_prompt_tokens_; }
  std::int64_t n_prefix_hit_tokens() const { return n_prefix_hit_tokens_; }
  const BlockPool& pool() const { return pool_; }

  // Every invariant above, over all sequences; for tests and idle moments.
  void check_integrity() const;

 private:
  struct Step {
    StepBatch batch;
    std::vector<std::int32_t> n_row_blocks;  // [max_sequences] entries that may not be 0
  };

  // As a projection, to look a sequence up in running_ or waiting_.
  static std::uint64_t arrival(const Sequence* sequence) { return sequence->arrival_; }
  Step& at_hand() { return steps_[at_hand_]; }
  static bool brings_generated_token(const Sequence& sequence);
  void begin_batch();
  void end_batch();
  bool has_blocks_for_decodes() const;
  void schedule_decodes();
  void schedule_prompts();
  std::int64_t n_room_tokens() const;
  std::int64_t n_room_rows() const;
  bool append_prompt(Sequence& sequence);
  bool is_awaiting_prefix(const Sequence& sequence) const;
  bool await_prefix(Sequence& sequence, std::int32_t n_found_blocks) const;
  std::int32_t n_shareable_blocks(const Sequence& sequence) const;
  std::span<const std::int32_t> find_prefix(const Sequence& sequence);
  bool admit(Sequence& sequence, std::span<const std::int32_t> found);
  bool grow_to(Sequence& sequence, std::int32_t n_tokens);
  void preempt_newest();
  void release_blocks(Sequence& sequence);
  void return_unread_blocks(Sequence& sequence);
  void append_to_batch(Sequence& sequence, std::int32_t n_new_tokens);
  std::int32_t n_known_blocks(const Sequence& sequence, std::int32_t n_tokens) const;
  void register_full_blocks(Sequence& sequence);
  void check_steps() const;

  const Limits limits_;
  BlockPool pool_;
  std::vector<Sequence*> running_;  // oldest first
  std::deque<Sequence*> waiting_;   // oldest first
  std::array<Step, kMaxStepsInFlight> steps_;
  std::size_t at_hand_ = 0;               // of steps_: the last that schedule() gave
  std::size_t oldest_ = 0;                // of steps_: the next to be completed
  std::int32_t n_in_flight_ = 0;          // of steps_
  std::uint64_t n_steps_ = 0;             // calls of schedule()
  std::vector<std::int32_t> score_rows_;  // rows that follow the sampled ones in logit_rows
  std::vector<Sequence*> score_row_sequences_;
  std::vector<std::int32_t> found_;  // [B] blocks of the prefix at hand
  std::uint64_t n_arrivals_ = 0;
  std::int64_t n_waiting_tokens_ = 0;
  std::int64_t n_preemptions_ = 0;
  std::int64_t n_prompt_tokens_ = 0;
  std::int64_t n_prefix_hit_tokens_ = 0;
};

}  // namespace nereid::sched
