#include "sched/scheduler.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "base/error.h"

namespace nereid::sched {

namespace {

constexpr std::int64_t kMaxContextTokens = std::numeric_limits<std::int32_t>::max();

Limits checked(Limits limits) {
  if (limits.max_sequences < 1 || limits.max_batch_tokens < limits.max_sequences)
    throw Error("a step of {} tokens for {} sequences; expected at least one token a sequence",
                limits.max_batch_tokens, limits.max_sequences);
  if (limits.max_mixed_tokens == 0) limits.max_mixed_tokens = limits.max_batch_tokens;
  if (limits.max_mixed_tokens < limits.max_sequences ||
      limits.max_mixed_tokens > limits.max_batch_tokens)
    throw Error(
        "a step of {} tokens where sequences generate; expected {}, the sequences of a step, to "
        "{}, the tokens of a step",
        limits.max_mixed_tokens, limits.max_sequences, limits.max_batch_tokens);
  if (limits.max_logit_rows < limits.max_sequences)
    throw Error("a step of {} rows of logits for {} sequences; expected at least one a sequence",
                limits.max_logit_rows, limits.max_sequences);
  if (limits.window_tokens < 0)
    throw Error("a window of {} tokens; expected at least one, or 0 for none",
                limits.window_tokens);
  if (limits.max_context_tokens < 1 || limits.max_context_tokens > kMaxContextTokens)
    throw Error("a context of {} tokens; expected 1 to {}", limits.max_context_tokens,
                kMaxContextTokens);
  return limits;
}

}  // namespace

Scheduler::Scheduler(const Limits& limits)
    : limits_(checked(limits)), pool_(limits.n_kv_blocks, limits.block_tokens) {
  const auto n_tokens = std::size_t(limits_.max_batch_tokens);
  const auto n_sequences = std::size_t(limits_.max_sequences);
  const auto n_rows = std::size_t(limits_.max_logit_rows);
  const auto n_blocks = std::size_t(limits_.max_blocks_per_sequence());
  for (Step& step : steps_) {
    StepBatch& batch = step.batch;
    batch.block_table_stride = std::int32_t(n_blocks);
    batch.token_ids.reserve(n_tokens);
    batch.positions.reserve(n_tokens);
    batch.slot_mapping.reserve(n_tokens);
    batch.cu_seqlens.reserve(n_sequences + 1);
    batch.context_lens.reserve(n_sequences);
    batch.block_tables.assign(n_sequences * n_blocks, 0);
    batch.logit_rows.reserve(n_rows);
    batch.sequences.reserve(n_sequences);
    batch.row_sequences.reserve(n_rows);
    step.n_row_blocks.assign(n_sequences, 0);
  }
  score_rows_.reserve(n_rows);
  score_row_sequences_.reserve(n_rows);
  found_.assign(n_blocks, 0);
  running_.reserve(n_sequences);
}

void Scheduler::add(Sequence& sequence) {
  NEREID_CHECK(sequence.state_ == SequenceState::created, "sequence {} was added before",
               sequence.id());
  if (sequence.n_prompt_tokens() > limits_.max_context_tokens)
    throw Error(ErrorCode::context_length,
                "the prompt has {} tokens; expected at most {}, the context; shorten the prompt or "
                "raise the context",
                sequence.n_prompt_tokens(), limits_.max_context_tokens);
  if (sequence.n_max_tokens() > limits_.max_context_tokens)
    throw Error(ErrorCode::context_length,
                "the prompt has {} tokens and may grow by {}; expected at most {} together, the "
                "context; ask for fewer new tokens or raise the context",
                sequence.n_prompt_tokens(), sequence.n_max_tokens() - sequence.n_prompt_tokens(),
                limits_.max_context_tokens);
  const std::int32_t n_needed = pool_.blocks_for(sequence.n_max_cached_tokens());
  if (n_needed > pool_.n_blocks())
    throw Error(ErrorCode::context_length,
                "a sequence of {} tokens needs {} KV blocks of {} tokens; there are {}; ask for "
                "fewer new tokens, shorten the prompt or give the KV cache more memory",
                sequence.n_max_tokens(), n_needed, pool_.block_tokens(), pool_.n_blocks());
  // Here and not in a step, where nothing is allocated.
  sequence.ids_.reserve(std::size_t(sequence.n_max_tokens()));
  sequence.block_table_.reserve(std::size_t(n_needed));
  waiting_.push_back(&sequence);
  try {
    if (limits_.prefix_caching && sequence.uses_prefix_cache_)
      sequence.root_ = pool_.acquire_root(sequence.cache_salt_);
  } catch (...) {
    waiting_.pop_back();
    throw;
  }
  sequence.arrival_ = ++n_arrivals_;
  sequence.state_ = SequenceState::waiting;
  n_waiting_tokens_ += sequence.n_tokens();
}

const StepBatch& Scheduler::schedule() {
  NEREID_CHECK(n_in_flight_ < kMaxStepsInFlight, "{} steps are in flight", n_in_flight_);
  for (const Sequence* sequence : running_)
    NEREID_CHECK(!sequence->is_exhausted(), "sequence {} has all its {} tokens: finish() it",
                 sequence->id(), sequence->n_tokens());
  // An empty step was never in flight: the other one may still be.
  if (n_in_flight_ == 0 || at_hand().batch.n_tokens > 0) at_hand_ = 1 - at_hand_;
  n_steps_ += 1;
  begin_batch();
  StepBatch& batch = at_hand().batch;
  batch.is_short_of_blocks = n_in_flight_ > 0 && !has_blocks_for_decodes();
  if (!batch.is_short_of_blocks) {
    schedule_decodes();
    batch.n_decodes = batch.n_sequences;
    schedule_prompts();
  }
  end_batch();
  NEREID_CHECK(batch.n_tokens > 0 || n_in_flight_ > 0 || !has_work(),
               "no progress: {} running, {} waiting, {} free blocks", running_.size(),
               waiting_.size(), pool_.n_free_blocks());
  if (batch.n_tokens == 0) return batch;
  if (n_in_flight_ == 0) oldest_ = at_hand_;
  n_in_flight_ += 1;
  return batch;
}

void Scheduler::begin_batch() {
  StepBatch& batch = at_hand().batch;
  batch.token_ids.clear();
  batch.positions.clear();
  batch.slot_mapping.clear();
  batch.cu_seqlens.clear();
  batch.cu_seqlens.push_back(0);
  batch.context_lens.clear();
  batch.logit_rows.clear();
  batch.sequences.clear();
  batch.row_sequences.clear();
  score_rows_.clear();
  score_row_sequences_.clear();
  batch.n_tokens = 0;
  batch.n_sequences = 0;
  batch.n_decodes = 0;
  batch.n_logit_rows = 0;
  batch.max_q_len = 0;
  batch.max_context_len = 0;
}

void Scheduler::end_batch() {
  StepBatch& batch = at_hand().batch;
  batch.n_sample_rows = std::int32_t(batch.logit_rows.size());
  batch.logit_rows.insert(batch.logit_rows.end(), score_rows_.begin(), score_rows_.end());
  batch.row_sequences.insert(batch.row_sequences.end(), score_row_sequences_.begin(),
                             score_row_sequences_.end());
}

// Nothing but its newest generated token is left to compute.
bool Scheduler::brings_generated_token(const Sequence& sequence) {
  return sequence.n_unscheduled_tokens() == 1 &&
         sequence.n_scheduled_tokens_ >= sequence.n_prompt_tokens_;
}

bool Scheduler::has_blocks_for_decodes() const {
  std::int32_t n_missing = 0;
  for (const Sequence* sequence : running_)
    if (brings_generated_token(*sequence))
      n_missing += pool_.blocks_for(sequence->n_scheduled_tokens_ + 1) >
                   std::int32_t(sequence->block_table_.size());
  return n_missing <= pool_.n_free_blocks();
}

void Scheduler::schedule_decodes() {
  // By index: a preemption takes sequences off the end, at worst the one at hand.
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (!brings_generated_token(sequence)) continue;
    bool is_running = true;
    while (is_running && !grow_to(sequence, sequence.n_scheduled_tokens_ + 1)) {
      is_running = running_.back() != &sequence;
      preempt_newest();
    }
    if (!is_running) return;
    append_to_batch(sequence, 1);
  }
}

void Scheduler::schedule_prompts() {
  for (Sequence* sequence : running_) {
    const bool is_in_batch = sequence->step_ == n_steps_;
    if (is_in_batch || sequence->n_unscheduled_tokens() == 0) continue;
    if (!append_prompt(*sequence)) return;
  }
  // Bounded: the time of a step does not grow with the queue.
  std::int64_t n_passed = 0;
  const auto has_more = [&] {
    return n_passed < std::min<std::int64_t>(std::ssize(waiting_), limits_.max_sequences);
  };
  while (has_more() && n_room_tokens() > 0 && n_room_rows() > 0) {
    Sequence& sequence = *waiting_[std::size_t(n_passed)];
    if (is_awaiting_prefix(sequence)) {
      n_passed += 1;
      continue;
    }
    const auto found = find_prefix(sequence);
    if (await_prefix(sequence, std::int32_t(found.size()))) {
      n_passed += 1;
      continue;
    }
    if (!admit(sequence, found) || !append_prompt(sequence)) return;
  }
}

// Tokens and rows of logits that prompts may still take of the step at hand.
std::int64_t Scheduler::n_room_tokens() const {
  const StepBatch& batch = steps_[at_hand_].batch;
  return (batch.n_decodes > 0 ? limits_.max_mixed_tokens : limits_.max_batch_tokens) -
         batch.n_tokens;
}

std::int64_t Scheduler::n_room_rows() const {
  return limits_.max_logit_rows - steps_[at_hand_].batch.n_logit_rows;
}

// False: the prompt was cut. Strictly in order: nothing overtakes it.
bool Scheduler::append_prompt(Sequence& sequence) {
  if (n_room_tokens() == 0 || n_room_rows() == 0) return false;
  const std::int32_t n_left = sequence.n_unscheduled_tokens();
  auto n_new = std::min<std::int64_t>(n_left, n_room_tokens());
  if (sequence.want_all_logits()) n_new = std::min(n_new, n_room_rows());
  append_to_batch(sequence, std::int32_t(n_new));
  return n_new == n_left;
}

// Whether the one it waits for still runs, and has more of the common start to compute. Asked
// first: a long prompt that many wait for is not looked up for each of them in each step.
bool Scheduler::is_awaiting_prefix(const Sequence& sequence) const {
  if (sequence.awaited_arrival_ == 0) return false;
  const auto awaited = std::ranges::lower_bound(running_, sequence.awaited_arrival_, {}, arrival);
  return awaited != running_.end() && arrival(*awaited) == sequence.awaited_arrival_ &&
         (*awaited)->n_known_blocks_ < sequence.n_awaited_blocks_;
}

// Several answers to one prompt compute it once: whoever needs blocks that a running sequence is
// about to fill waits for them. That one brings tokens to every step or leaves, so that the wait
// ends; whoever comes later and needs the same blocks waits too.
bool Scheduler::await_prefix(Sequence& sequence, std::int32_t n_found_blocks) const {
  sequence.awaited_arrival_ = 0;
  const std::int32_t n_most = n_shareable_blocks(sequence);
  if (n_found_blocks == n_most) return false;
  for (const Sequence* other : running_) {
    const std::int32_t n_other = n_known_blocks(*other, other->n_tokens());
    if (other->root_ != sequence.root_ || n_other <= other->n_known_blocks_) continue;
    const auto differs = std::ranges::mismatch(sequence.ids_, other->ids_).in1;
    const auto n_same = std::int32_t(differs - sequence.ids_.begin()) / pool_.block_tokens();
    const std::int32_t n_common = std::min(n_same, n_most);
    if (n_common <= std::max(n_found_blocks, other->n_known_blocks_)) continue;
    sequence.awaited_arrival_ = other->arrival_;
    sequence.n_awaited_blocks_ = n_common;
    return true;
  }
  return false;
}

// Full blocks of its known tokens but the last: one token must be computed, to sample the next.
std::int32_t Scheduler::n_shareable_blocks(const Sequence& sequence) const {
  // What is found has no logits.
  if (sequence.root_ == 0 || sequence.want_all_logits()) return 0;
  return n_known_blocks(sequence, sequence.n_tokens() - 1);
}

std::span<const std::int32_t> Scheduler::find_prefix(const Sequence& sequence) {
  const auto found = std::span(found_).first(std::size_t(n_shareable_blocks(sequence)));
  if (found.empty()) return {};
  return found.first(std::size_t(pool_.find(sequence.root_, sequence.ids_, found)));
}

// Moves a waiting sequence to running, with blocks for all its known tokens: a prompt under way
// never stops for want of blocks. The first of them are `found`.
bool Scheduler::admit(Sequence& sequence, std::span<const std::int32_t> found) {
  if (n_running() == limits_.max_sequences) return false;
  const auto n_in_use = std::ranges::count_if(
      found, [&](std::int32_t block) { return pool_.n_references(block) > 0; });
  // One more block for each that may still grow: else the newcomer would be preempted a few steps
  // later.
  const auto n_growing = std::ranges::count_if(running_, [&](const Sequence* other) {
    return std::int32_t(other->block_table_.size()) <
           pool_.blocks_for(other->n_max_cached_tokens());
  });
  if (pool_.blocks_for(sequence.n_tokens()) - n_in_use + n_growing > pool_.n_free_blocks())
    return false;
  waiting_.erase(std::ranges::lower_bound(waiting_, sequence.arrival_, {}, arrival));
  running_.insert(std::ranges::lower_bound(running_, sequence.arrival_, {}, arrival), &sequence);
  n_waiting_tokens_ -= sequence.n_tokens();
  sequence.state_ = SequenceState::running;
  pool_.share(found);
  sequence.block_table_.assign(found.begin(), found.end());
  sequence.n_known_blocks_ = std::int32_t(found.size());
  sequence.content_ = found.empty() ? sequence.root_ : pool_.content(found.back());
  sequence.n_cached_tokens_ = sequence.n_known_blocks_ * pool_.block_tokens();
  sequence.n_scheduled_tokens_ = sequence.n_cached_tokens_;
  if (sequence.n_preemptions_ == 0) {
    sequence.n_prefix_tokens_ = sequence.n_cached_tokens_;
    n_prompt_tokens_ += sequence.n_prompt_tokens_;
    n_prefix_hit_tokens_ += sequence.n_prefix_tokens_;
  }
  const bool has_blocks = grow_to(sequence, sequence.n_tokens());
  NEREID_CHECK(has_blocks, "sequence {} of {} tokens, {} free blocks", sequence.id(),
               sequence.n_tokens(), pool_.n_free_blocks());
  return true;
}

// False: the blocks ran out; those it got stay with the sequence.
bool Scheduler::grow_to(Sequence& sequence, std::int32_t n_tokens) {
  const auto n_needed = std::size_t(pool_.blocks_for(n_tokens));
  while (sequence.block_table_.size() < n_needed) {
    if (pool_.n_free_blocks() == 0) return false;
    sequence.block_table_.push_back(pool_.allocate());
  }
  return true;
}

void Scheduler::preempt_newest() {
  Sequence& sequence = *running_.back();
  NEREID_CHECK(running_.size() > 1 && n_in_flight_ == 0 && sequence.step_ != n_steps_,
               "sequence {} cannot be preempted: {} running, {} steps in flight, {} cached, {} "
               "scheduled",
               sequence.id(), running_.size(), n_in_flight_, sequence.n_cached_tokens_,
               sequence.n_scheduled_tokens_);
  running_.pop_back();
  release_blocks(sequence);
  sequence.n_cached_tokens_ = 0;
  sequence.n_scheduled_tokens_ = 0;
  sequence.n_preemptions_ += 1;
  sequence.state_ = SequenceState::waiting;
  waiting_.insert(std::ranges::lower_bound(waiting_, sequence.arrival_, {}, arrival), &sequence);
  n_waiting_tokens_ += sequence.n_tokens();
  n_preemptions_ += 1;
}

void Scheduler::release_blocks(Sequence& sequence) {
  pool_.free(std::span(sequence.block_table_).subspan(std::size_t(sequence.n_returned_blocks_)));
  sequence.block_table_.clear();
  sequence.n_returned_blocks_ = 0;
  sequence.n_known_blocks_ = 0;
}

// Those before the window of the first token that is not cached: whatever is computed next, or
// again after steps that failed, reads none of them. A step in flight may still: the device does
// steps in order.
void Scheduler::return_unread_blocks(Sequence& sequence) {
  if (limits_.window_tokens == 0) return;
  const std::int64_t first_read = sequence.n_cached_tokens_ + 1 - limits_.window_tokens;
  const auto n_unread = std::int32_t(std::max<std::int64_t>(first_read, 0) / pool_.block_tokens());
  const auto unread = std::span(sequence.block_table_)
                          .subspan(std::size_t(sequence.n_returned_blocks_),
                                   std::size_t(n_unread - sequence.n_returned_blocks_));
  pool_.free(unread);
  std::ranges::fill(unread, 0);
  sequence.n_returned_blocks_ = n_unread;
}

void Scheduler::append_to_batch(Sequence& sequence, std::int32_t n_new_tokens) {
  StepBatch& batch = at_hand().batch;
  const std::int32_t first = sequence.n_scheduled_tokens_;
  const std::int32_t context_len = first + n_new_tokens;
  const std::int32_t n_sampled = sequence.n_tokens() + sequence.n_pending_tokens_;
  const std::int32_t block_tokens = pool_.block_tokens();
  const auto& table = sequence.block_table_;
  const std::int32_t first_row = batch.n_tokens;
  for (std::int32_t position = first; position < context_len; ++position) {
    // A pending token was sampled by the one step in flight.
    batch.token_ids.push_back(position < sequence.n_tokens() ? sequence.ids_[std::size_t(position)]
                                                             : -1 - sequence.step_row_);
    batch.positions.push_back(position);
    batch.slot_mapping.push_back(table[std::size_t(position / block_tokens)] * block_tokens +
                                 position % block_tokens);
  }
  sequence.n_scheduled_tokens_ = context_len;
  sequence.step_ = n_steps_;

  auto& n_row_blocks = at_hand().n_row_blocks[std::size_t(batch.n_sequences)];
  const auto entries =
      batch.block_tables.begin() + std::ptrdiff_t(batch.n_sequences) * batch.block_table_stride;
  std::ranges::copy(table, entries);
  const auto n_blocks = std::int32_t(table.size());
  if (n_row_blocks > n_blocks) std::fill(entries + n_blocks, entries + n_row_blocks, 0);
  n_row_blocks = n_blocks;

  batch.sequences.push_back(&sequence);
  batch.context_lens.push_back(context_len);
  batch.n_sequences += 1;
  batch.n_tokens += n_new_tokens;
  batch.cu_seqlens.push_back(batch.n_tokens);
  batch.max_q_len = std::max(batch.max_q_len, n_new_tokens);
  batch.max_context_len = std::max(batch.max_context_len, context_len);

  const std::int32_t last_row = batch.n_tokens - 1;
  const bool is_sampled = context_len == n_sampled && n_sampled < sequence.n_max_tokens();
  if (sequence.want_all_logits()) {
    for (std::int32_t row = first_row; row < last_row + !is_sampled; ++row) {
      score_rows_.push_back(row);
      score_row_sequences_.push_back(&sequence);
    }
  }
  if (is_sampled) {
    sequence.step_row_ = std::int32_t(batch.logit_rows.size());
    sequence.n_pending_tokens_ += 1;
    batch.logit_rows.push_back(last_row);
    batch.row_sequences.push_back(&sequence);
  }
  batch.n_logit_rows = std::int32_t(batch.logit_rows.size() + score_rows_.size());
}

void Scheduler::complete(std::span<const std::int32_t> sampled_ids) {
  NEREID_CHECK(n_in_flight_ > 0, "no step is in flight");
  const StepBatch& batch = steps_[oldest_].batch;
  NEREID_CHECK(sampled_ids.size() == std::size_t(batch.n_sample_rows), "{} sampled ids for {} rows",
               sampled_ids.size(), batch.n_sample_rows);
  n_in_flight_ -= 1;
  oldest_ = 1 - oldest_;
  for (std::size_t row = 0; row < sampled_ids.size(); ++row) {
    Sequence* sequence = batch.row_sequences[row];
    if (sequence == nullptr) continue;
    sequence->ids_.push_back(sampled_ids[row]);
    sequence->n_pending_tokens_ -= 1;
  }
  for (std::size_t s = 0; s < batch.sequences.size(); ++s) {
    Sequence* sequence = batch.sequences[s];
    if (sequence == nullptr) continue;
    sequence->n_cached_tokens_ = batch.context_lens[s];
    if (sequence->root_ != 0) register_full_blocks(*sequence);
    return_unread_blocks(*sequence);
  }
}

// Full blocks of its first `n_tokens` tokens, as far as the prefix cache keeps them.
std::int32_t Scheduler::n_known_blocks(const Sequence& sequence, std::int32_t n_tokens) const {
  if (!limits_.caches_answers) n_tokens = std::min(n_tokens, sequence.n_prompt_tokens_);
  return n_tokens / pool_.block_tokens();
}

void Scheduler::register_full_blocks(Sequence& sequence) {
  const std::int32_t block_tokens = pool_.block_tokens();
  for (const std::int32_t n_full = n_known_blocks(sequence, sequence.n_cached_tokens_);
       sequence.n_known_blocks_ < n_full; sequence.n_known_blocks_ += 1) {
    const auto block = std::size_t(sequence.n_known_blocks_);
    sequence.content_ = pool_.register_block(
        sequence.block_table_[block], sequence.content_,
        sequence.ids().subspan(block * std::size_t(block_tokens), std::size_t(block_tokens)));
  }
}

void Scheduler::finish(Sequence& sequence) {
  if (sequence.state_ == SequenceState::running) {
    // In a completed step too: what is finished may be gone.
    for (Step& step : steps_) {
      std::ranges::replace(step.batch.sequences, &sequence, nullptr);
      std::ranges::replace(step.batch.row_sequences, &sequence, nullptr);
    }
    release_blocks(sequence);
    running_.erase(std::ranges::lower_bound(running_, sequence.arrival_, {}, arrival));
    sequence.n_pending_tokens_ = 0;
  } else if (sequence.state_ == SequenceState::waiting) {
    waiting_.erase(std::ranges::lower_bound(waiting_, sequence.arrival_, {}, arrival));
    n_waiting_tokens_ -= sequence.n_tokens();
  } else {
    NEREID_UNREACHABLE("sequence {} is not scheduled here", sequence.id());
  }
  if (sequence.root_ != 0) pool_.release_root(std::exchange(sequence.root_, 0));
  sequence.state_ = SequenceState::finished;
}

void Scheduler::fail() {
  for (Sequence* sequence : running_) {
    sequence->n_scheduled_tokens_ = sequence->n_cached_tokens_;
    sequence->n_pending_tokens_ = 0;
  }
  n_in_flight_ = 0;
}

std::vector<Sequence*> Scheduler::in_flight_sequences() const {
  std::vector<Sequence*> sequences;
  std::ranges::copy_if(running_, std::back_inserter(sequences), [](const Sequence* sequence) {
    return sequence->n_scheduled_tokens_ > sequence->n_cached_tokens_;
  });
  return sequences;
}

}  // namespace nereid::sched
