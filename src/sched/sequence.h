// Goal: one request's tokens and where it stands: what is known, what is in the KV cache, what the
// step in flight adds, how far it may grow. The four lengths never leave their order.
// Non-goal: text, sampling parameters, the reason it ended: the engine's.
// Rejected: prompt and output apart. After a preemption the two are computed again as one prompt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nereid::sched {

enum class SequenceState : std::uint8_t { created, waiting, running, finished };

class Sequence {
 public:
  // `max_new_tokens` 0: the prompt is only scored. An Error says that the prompt is empty.
  Sequence(std::uint64_t id, std::vector<std::int32_t> prompt_ids, std::int32_t max_new_tokens,
           bool want_all_logits = false);

  std::uint64_t id() const { return id_; }
  SequenceState state() const { return state_; }
  bool want_all_logits() const { return want_all_logits_; }

  // Prompt, then what was generated. [n_tokens]
  std::span<const std::int32_t> ids() const { return ids_; }
  std::span<const std::int32_t> prompt_ids() const {
    return ids().first(std::size_t(n_prompt_tokens_));
  }
  std::span<const std::int32_t> generated_ids() const {
    return ids().subspan(std::size_t(n_prompt_tokens_));
  }
  std::int32_t n_prompt_tokens() const { return n_prompt_tokens_; }
  std::int32_t n_generated_tokens() const { return n_tokens() - n_prompt_tokens_; }

  // n_cached_tokens <= n_scheduled_tokens <= n_tokens <= n_max_tokens: K and V are in the cache; so
  // after the step in flight; known; prompt and all that may be generated.
  std::int32_t n_cached_tokens() const { return n_cached_tokens_; }
  std::int32_t n_scheduled_tokens() const { return n_scheduled_tokens_; }
  std::int32_t n_tokens() const { return std::int32_t(ids_.size()); }
  std::int32_t n_max_tokens() const { return n_max_tokens_; }

  // Positions that will ever be cached: the last generated token is never fed back.
  std::int32_t n_max_cached_tokens() const;
  // Nothing is left to compute or to sample: the engine owes it a finish().
  bool is_exhausted() const;

  // Block i holds positions [i * block_tokens, (i + 1) * block_tokens).
  std::span<const std::int32_t> block_table() const { return block_table_; }
  std::int32_t n_preemptions() const { return n_preemptions_; }

  void check_integrity() const;

 private:
  friend class Scheduler;

  std::uint64_t id_;
  SequenceState state_ = SequenceState::created;
  bool want_all_logits_;
  std::vector<std::int32_t> ids_;
  std::int32_t n_prompt_tokens_;
  std::int32_t n_cached_tokens_ = 0;
  std::int32_t n_scheduled_tokens_ = 0;
  std::int32_t n_max_tokens_;
  std::int32_t n_preemptions_ = 0;
  std::uint64_t arrival_ = 0;  // order of add(): first come, first served
  std::vector<std::int32_t> block_table_;
};

}  // namespace nereid::sched
