#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "sched/scheduler.h"

namespace nereid::sched {

void Scheduler::check_integrity() const {
  pool_.check_integrity();
  const auto check_list = [&](const auto& list, SequenceState state) {
    std::uint64_t last_arrival = 0;
    for (const Sequence* sequence : list) {
      sequence->check_integrity();
      NEREID_CHECK(sequence->state_ == state && sequence->arrival_ > last_arrival,
                   "sequence {} in the wrong list or place: arrival {} after {}", sequence->id(),
                   sequence->arrival_, last_arrival);
      last_arrival = sequence->arrival_;
    }
  };
  check_list(running_, SequenceState::running);
  check_list(waiting_, SequenceState::waiting);
  std::vector<std::int32_t> n_references(std::size_t(pool_.n_blocks()), 0);
  for (const Sequence* sequence : running_) {
    NEREID_CHECK(pool_.blocks_for(sequence->n_scheduled_tokens_) <=
                     std::int32_t(sequence->block_table_.size()),
                 "sequence {} has {} blocks for {} tokens", sequence->id(),
                 sequence->block_table_.size(), sequence->n_scheduled_tokens_);
    NEREID_CHECK(sequence->root_ == 0 || sequence->n_known_blocks_ ==
                                             n_known_blocks(*sequence, sequence->n_cached_tokens_),
                 "sequence {} has {} cached tokens, and {} of its blocks are known", sequence->id(),
                 sequence->n_cached_tokens_, sequence->n_known_blocks_);
    for (const std::int32_t block :
         std::span(sequence->block_table_).subspan(std::size_t(sequence->n_returned_blocks_)))
      n_references[std::size_t(block)] += 1;
  }
  for (std::int32_t block = 0; block < pool_.n_blocks(); ++block)
    NEREID_CHECK(n_references[std::size_t(block)] == pool_.n_references(block),
                 "KV block {} is in {} block tables and counts {}", block,
                 n_references[std::size_t(block)], pool_.n_references(block));
  std::int64_t n_waiting_tokens = 0;
  for (const Sequence* sequence : waiting_) n_waiting_tokens += sequence->n_tokens();
  NEREID_CHECK(n_waiting_tokens == n_waiting_tokens_ && n_running() <= limits_.max_sequences,
               "{} tokens wait, {} counted; {} sequences of at most {} run", n_waiting_tokens,
               n_waiting_tokens_, n_running(), limits_.max_sequences);
  check_steps();
}

// Where a running sequence stands is what its steps in flight say.
void Scheduler::check_steps() const {
  for (const Sequence* sequence : running_) {
    std::int32_t n_scheduled = sequence->n_cached_tokens_;
    std::int32_t n_pending = 0;
    for (std::int32_t i = 0; i < n_in_flight_; ++i) {
      const StepBatch& batch = steps_[(oldest_ + std::size_t(i)) % steps_.size()].batch;
      for (std::size_t s = 0; s < batch.sequences.size(); ++s)
        if (batch.sequences[s] == sequence)
          n_scheduled += batch.cu_seqlens[s + 1] - batch.cu_seqlens[s];
      const auto rows = std::span(batch.row_sequences).first(std::size_t(batch.n_sample_rows));
      n_pending += std::int32_t(std::ranges::count(rows, sequence));
    }
    NEREID_CHECK(
        n_scheduled == sequence->n_scheduled_tokens_ && n_pending == sequence->n_pending_tokens_,
        "sequence {}: scheduled {} pending {}; by its steps in flight {} and {}", sequence->id(),
        sequence->n_scheduled_tokens_, sequence->n_pending_tokens_, n_scheduled, n_pending);
  }
}

}  // namespace nereid::sched
