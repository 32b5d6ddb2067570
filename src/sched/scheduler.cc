#include "sched/scheduler.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace nereid::sched {

namespace {

constexpr std::int64_t kMaxContextTokens = std::numeric_limits<std::int32_t>::max();

const Limits& checked(const Limits& limits) {
  if (limits.max_sequences < 1 || limits.max_batch_tokens < limits.max_sequences)
    throw Error("a step of {} tokens for {} sequences; expected at least one token a sequence",
                limits.max_batch_tokens, limits.max_sequences);
  if (limits.max_logit_rows < limits.max_sequences)
    throw Error("a step of {} rows of logits for {} sequences; expected at least one a sequence",
                limits.max_logit_rows, limits.max_sequences);
  if (limits.max_context_tokens < 1 || limits.max_context_tokens > kMaxContextTokens)
    throw Error("a context of {} tokens; expected 1 to {}", limits.max_context_tokens,
                kMaxContextTokens);
  return limits;
}

}  // namespace

bool Scheduler::is_scheduled(const Sequence& sequence) {
  return sequence.n_scheduled_tokens_ > sequence.n_cached_tokens_;
}

Scheduler::Scheduler(const Limits& limits)
    : limits_(checked(limits)), pool_(limits.n_kv_blocks, limits.block_tokens) {
  batch_.block_table_stride = std::int32_t(limits_.max_blocks_per_sequence());
  const auto n_tokens = std::size_t(limits_.max_batch_tokens);
  const auto n_sequences = std::size_t(limits_.max_sequences);
  const auto n_rows = std::size_t(limits_.max_logit_rows);
  batch_.token_ids.reserve(n_tokens);
  batch_.positions.reserve(n_tokens);
  batch_.slot_mapping.reserve(n_tokens);
  batch_.cu_seqlens.reserve(n_sequences + 1);
  batch_.context_lens.reserve(n_sequences);
  batch_.block_tables.assign(n_sequences * std::size_t(batch_.block_table_stride), 0);
  batch_.logit_rows.reserve(n_rows);
  batch_.sequences.reserve(n_sequences);
  batch_.row_sequences.reserve(n_rows);
  score_rows_.reserve(n_rows);
  score_row_sequences_.reserve(n_rows);
  n_row_blocks_.assign(n_sequences, 0);
  running_.reserve(n_sequences);
}

void Scheduler::add(Sequence& sequence) {
  NEREID_CHECK(sequence.state_ == SequenceState::created, "sequence {} was added before",
               sequence.id());
  if (sequence.n_prompt_tokens() > limits_.max_context_tokens)
    throw Error(
        "the prompt has {} tokens; expected at most {}, the context; shorten the prompt or "
        "raise the context",
        sequence.n_prompt_tokens(), limits_.max_context_tokens);
  if (sequence.n_max_tokens() > limits_.max_context_tokens)
    throw Error(
        "the prompt has {} tokens and may grow by {}; expected at most {} together, the "
        "context; ask for fewer new tokens or raise the context",
        sequence.n_prompt_tokens(), sequence.n_max_tokens() - sequence.n_prompt_tokens(),
        limits_.max_context_tokens);
  const std::int32_t n_needed = pool_.blocks_for(sequence.n_max_cached_tokens());
  if (n_needed > pool_.n_blocks())
    throw Error(
        "a sequence of {} tokens needs {} KV blocks of {} tokens; there are {}; ask for "
        "fewer new tokens, shorten the prompt or give the KV cache more memory",
        sequence.n_max_tokens(), n_needed, pool_.block_tokens(), pool_.n_blocks());
  // Here and not in a step, where nothing is allocated.
  sequence.ids_.reserve(std::size_t(sequence.n_max_tokens()));
  sequence.block_table_.reserve(std::size_t(n_needed));
  sequence.arrival_ = ++n_arrivals_;
  sequence.state_ = SequenceState::waiting;
  waiting_.push_back(&sequence);
}

const StepBatch& Scheduler::schedule() {
  NEREID_CHECK(!in_flight_, "a step of {} tokens is in flight", batch_.n_tokens);
  for (const Sequence* sequence : running_)
    NEREID_CHECK(!sequence->is_exhausted(), "sequence {} has all its {} tokens: finish() it",
                 sequence->id(), sequence->n_tokens());
  begin_batch();
  schedule_decodes();
  batch_.n_decodes = batch_.n_sequences;
  schedule_prompts();
  end_batch();
  NEREID_CHECK(batch_.n_tokens > 0 || !has_work(),
               "no progress: {} running, {} waiting, {} free blocks", running_.size(),
               waiting_.size(), pool_.n_free_blocks());
  in_flight_ = batch_.n_tokens > 0;
  return batch_;
}

void Scheduler::begin_batch() {
  batch_.token_ids.clear();
  batch_.positions.clear();
  batch_.slot_mapping.clear();
  batch_.cu_seqlens.clear();
  batch_.cu_seqlens.push_back(0);
  batch_.context_lens.clear();
  batch_.logit_rows.clear();
  batch_.sequences.clear();
  batch_.row_sequences.clear();
  score_rows_.clear();
  score_row_sequences_.clear();
  batch_.n_tokens = 0;
  batch_.n_sequences = 0;
  batch_.n_decodes = 0;
  batch_.n_logit_rows = 0;
  batch_.max_q_len = 0;
  batch_.max_context_len = 0;
}

void Scheduler::end_batch() {
  batch_.n_sample_rows = std::int32_t(batch_.logit_rows.size());
  batch_.logit_rows.insert(batch_.logit_rows.end(), score_rows_.begin(), score_rows_.end());
  batch_.row_sequences.insert(batch_.row_sequences.end(), score_row_sequences_.begin(),
                              score_row_sequences_.end());
}

void Scheduler::schedule_decodes() {
  // By index: a preemption takes sequences off the end, at worst the one at hand.
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.n_tokens() - sequence.n_cached_tokens_ != 1 || sequence.n_generated_tokens() == 0)
      continue;
    bool is_running = true;
    while (is_running && !grow_to(sequence, sequence.n_tokens())) {
      is_running = running_.back() != &sequence;
      preempt_newest();
    }
    if (!is_running) return;
    append_to_batch(sequence, 1);
  }
}

void Scheduler::schedule_prompts() {
  std::size_t i = 0;
  while (batch_.n_tokens < limits_.max_batch_tokens &&
         batch_.n_logit_rows < limits_.max_logit_rows) {
    while (i < running_.size() && is_scheduled(*running_[i])) ++i;
    if (i == running_.size() && !admit_next()) return;
    Sequence& sequence = *running_[i];
    const std::int32_t n_left = sequence.n_tokens() - sequence.n_cached_tokens_;
    auto n_new = std::min<std::int64_t>(n_left, limits_.max_batch_tokens - batch_.n_tokens);
    if (sequence.want_all_logits())
      n_new = std::min(n_new, limits_.max_logit_rows - batch_.n_logit_rows);
    append_to_batch(sequence, std::int32_t(n_new));
    // Strictly in order: nothing overtakes a prompt that was cut.
    if (n_new < n_left) return;
  }
}

// Moves the oldest waiting sequence to running, with blocks for all its known tokens: a prompt
// under way never stops for want of blocks.
bool Scheduler::admit_next() {
  if (waiting_.empty() || n_running() == limits_.max_sequences) return false;
  Sequence& sequence = *waiting_.front();
  // One more block for each that may still grow: else the newcomer would be preempted a few steps
  // later.
  const auto n_growing = std::ranges::count_if(running_, [&](const Sequence* other) {
    return std::int32_t(other->block_table_.size()) <
           pool_.blocks_for(other->n_max_cached_tokens());
  });
  if (pool_.blocks_for(sequence.n_tokens()) + n_growing > pool_.n_free_blocks()) return false;
  waiting_.pop_front();
  running_.push_back(&sequence);
  sequence.state_ = SequenceState::running;
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
  NEREID_CHECK(running_.size() > 1 && !is_scheduled(sequence),
               "sequence {} cannot be preempted: {} running, {} cached, {} scheduled",
               sequence.id(), running_.size(), sequence.n_cached_tokens_,
               sequence.n_scheduled_tokens_);
  running_.pop_back();
  release_blocks(sequence);
  sequence.n_cached_tokens_ = 0;
  sequence.n_scheduled_tokens_ = 0;
  sequence.n_preemptions_ += 1;
  sequence.state_ = SequenceState::waiting;
  waiting_.push_front(&sequence);
  n_preemptions_ += 1;
}

void Scheduler::release_blocks(Sequence& sequence) {
  pool_.free(sequence.block_table_);
  sequence.block_table_.clear();
}

void Scheduler::append_to_batch(Sequence& sequence, std::int32_t n_new_tokens) {
  const std::int32_t first = sequence.n_cached_tokens_;
  const std::int32_t context_len = first + n_new_tokens;
  const std::int32_t block_tokens = pool_.block_tokens();
  const auto& table = sequence.block_table_;
  const std::int32_t first_row = batch_.n_tokens;
  for (std::int32_t position = first; position < context_len; ++position) {
    batch_.token_ids.push_back(sequence.ids_[std::size_t(position)]);
    batch_.positions.push_back(position);
    batch_.slot_mapping.push_back(table[std::size_t(position / block_tokens)] * block_tokens +
                                  position % block_tokens);
  }
  sequence.n_scheduled_tokens_ = context_len;

  auto& n_row_blocks = n_row_blocks_[std::size_t(batch_.n_sequences)];
  const auto entries =
      batch_.block_tables.begin() + std::ptrdiff_t(batch_.n_sequences) * batch_.block_table_stride;
  std::ranges::copy(table, entries);
  const auto n_blocks = std::int32_t(table.size());
  if (n_row_blocks > n_blocks) std::fill(entries + n_blocks, entries + n_row_blocks, 0);
  n_row_blocks = n_blocks;

  batch_.sequences.push_back(&sequence);
  batch_.context_lens.push_back(context_len);
  batch_.n_sequences += 1;
  batch_.n_tokens += n_new_tokens;
  batch_.cu_seqlens.push_back(batch_.n_tokens);
  batch_.max_q_len = std::max(batch_.max_q_len, n_new_tokens);
  batch_.max_context_len = std::max(batch_.max_context_len, context_len);

  const std::int32_t last_row = batch_.n_tokens - 1;
  const bool is_sampled =
      context_len == sequence.n_tokens() && sequence.n_tokens() < sequence.n_max_tokens();
  if (sequence.want_all_logits()) {
    for (std::int32_t row = first_row; row < last_row + !is_sampled; ++row) {
      score_rows_.push_back(row);
      score_row_sequences_.push_back(&sequence);
    }
  }
  if (is_sampled) {
    batch_.logit_rows.push_back(last_row);
    batch_.row_sequences.push_back(&sequence);
  }
  batch_.n_logit_rows = std::int32_t(batch_.logit_rows.size() + score_rows_.size());
}

void Scheduler::complete(std::span<const std::int32_t> sampled_ids) {
  NEREID_CHECK(in_flight_, "no step is in flight");
  NEREID_CHECK(sampled_ids.size() == std::size_t(batch_.n_sample_rows),
               "{} sampled ids for {} rows", sampled_ids.size(), batch_.n_sample_rows);
  in_flight_ = false;
  for (Sequence* sequence : batch_.sequences)
    sequence->n_cached_tokens_ = sequence->n_scheduled_tokens_;
  for (std::size_t row = 0; row < sampled_ids.size(); ++row)
    batch_.row_sequences[row]->ids_.push_back(sampled_ids[row]);
}

void Scheduler::finish(Sequence& sequence) {
  NEREID_CHECK(!in_flight_, "sequence {} is finished while a step is in flight", sequence.id());
  if (sequence.state_ == SequenceState::running) {
    release_blocks(sequence);
    std::erase(running_, &sequence);
  } else if (sequence.state_ == SequenceState::waiting) {
    std::erase(waiting_, &sequence);
  } else {
    NEREID_UNREACHABLE("sequence {} is not scheduled here", sequence.id());
  }
  sequence.state_ = SequenceState::finished;
}

void Scheduler::check_integrity() const {
  pool_.check_integrity();
  std::uint64_t last_arrival = 0;
  const auto check_order = [&](const Sequence& sequence, SequenceState state) {
    sequence.check_integrity();
    NEREID_CHECK(sequence.state_ == state && sequence.arrival_ > last_arrival,
                 "sequence {} in the wrong list or place: arrival {} after {}", sequence.id(),
                 sequence.arrival_, last_arrival);
    last_arrival = sequence.arrival_;
  };
  std::vector<std::uint8_t> is_owned(std::size_t(pool_.n_blocks()), 0);
  std::int32_t n_owned = 0;
  for (const Sequence* sequence : running_) {
    check_order(*sequence, SequenceState::running);
    NEREID_CHECK(pool_.blocks_for(sequence->n_scheduled_tokens_) <=
                     std::int32_t(sequence->block_table_.size()),
                 "sequence {} has {} blocks for {} tokens", sequence->id(),
                 sequence->block_table_.size(), sequence->n_scheduled_tokens_);
    for (const std::int32_t block : sequence->block_table_) {
      NEREID_CHECK(!is_owned[std::size_t(block)], "KV block {} belongs to two sequences", block);
      is_owned[std::size_t(block)] = 1;
      n_owned += 1;
    }
  }
  for (const Sequence* sequence : waiting_) check_order(*sequence, SequenceState::waiting);
  NEREID_CHECK(n_owned == pool_.n_used_blocks() && n_running() <= limits_.max_sequences,
               "{} blocks in sequences, {} in use; {} sequences of at most {} run", n_owned,
               pool_.n_used_blocks(), n_running(), limits_.max_sequences);
}

}  // namespace nereid::sched
