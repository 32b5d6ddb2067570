#include "sched/sequence.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"

namespace nereid::sched {

Sequence::Sequence(SequenceOptions options)
    : id_(options.id),
      want_all_logits_(options.want_all_logits),
      uses_prefix_cache_(options.uses_prefix_cache),
      cache_salt_(std::move(options.cache_salt)),
      ids_(std::move(options.prompt_ids)) {
  if (ids_.empty()) throw Error("the prompt has no tokens; expected at least one");
  if (options.max_new_tokens < 0)
    throw Error("the number of new tokens is {}; expected 0 or more", options.max_new_tokens);
  const std::size_t n_max = ids_.size() + std::size_t(options.max_new_tokens);
  if (n_max > std::size_t(std::numeric_limits<std::int32_t>::max()))
    throw Error("prompt and new tokens are {} together; expected fewer than 2^31", n_max);
  n_prompt_tokens_ = std::int32_t(ids_.size());
  n_max_tokens_ = std::int32_t(n_max);
}

std::int32_t Sequence::n_max_cached_tokens() const {
  return std::max(n_prompt_tokens_, n_max_tokens_ - 1);
}

std::int32_t Sequence::n_unscheduled_tokens() const {
  return std::min(n_tokens() + n_pending_tokens_, n_max_cached_tokens()) - n_scheduled_tokens_;
}

bool Sequence::is_exhausted() const {
  if (n_max_tokens_ == n_prompt_tokens_) return n_cached_tokens_ == n_tokens();
  return n_tokens() == n_max_tokens_;
}

void Sequence::check_integrity() const {
  const std::int32_t n_sampled = n_tokens() + n_pending_tokens_;
  NEREID_CHECK(0 <= n_cached_tokens_ && n_cached_tokens_ <= n_scheduled_tokens_ &&
                   n_scheduled_tokens_ <= n_sampled && n_prompt_tokens_ <= n_tokens() &&
                   n_sampled <= n_max_tokens_ && n_prefix_tokens_ < n_prompt_tokens_,
               "sequence {}: cached {} scheduled {} prompt {} of which {} were found, known {} "
               "pending {} max {}",
               id_, n_cached_tokens_, n_scheduled_tokens_, n_prompt_tokens_, n_prefix_tokens_,
               n_tokens(), n_pending_tokens_, n_max_tokens_);
  NEREID_CHECK(
      n_pending_tokens_ == 0 || (n_pending_tokens_ > 0 && n_scheduled_tokens_ < n_sampled &&
                                 n_cached_tokens_ < n_scheduled_tokens_),
      "sequence {}: pending {} cached {} scheduled {} known {}", id_, n_pending_tokens_,
      n_cached_tokens_, n_scheduled_tokens_, n_tokens());
  NEREID_CHECK(n_returned_blocks_ >= 0 && n_returned_blocks_ <= std::ssize(block_table_),
               "sequence {} gave back {} of {} blocks", id_, n_returned_blocks_,
               block_table_.size());
  NEREID_CHECK(state_ == SequenceState::running ||
                   (n_scheduled_tokens_ == 0 && block_table_.empty() && n_known_blocks_ == 0) ||
                   (state_ == SequenceState::finished && block_table_.empty()),
               "sequence {} is not running, has {} blocks and {} scheduled tokens", id_,
               block_table_.size(), n_scheduled_tokens_);
}

}  // namespace nereid::sched
