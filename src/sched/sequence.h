// Goal: one request's tokens and where it stands: what is known, what is in the KV cache, what the
// steps in flight add, how far it may grow. The lengths never leave their order.
// Non-goal: text, sampling parameters, the reason it ended: the engine's.
// Rejected: prompt and output apart. After a preemption the two are computed again as one prompt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sched/cache_roots.h"

namespace nereid::sched {

enum class SequenceState : std::uint8_t { created, waiting, running, finished };

struct SequenceOptions {
  std::uint64_t id = 0;
  std::vector<std::int32_t> prompt_ids = {};
  std::int32_t max_new_tokens = 0;  // 0: the prompt is only scored
  bool want_all_logits = false;
  // Blocks are shared only among sequences of the same salt.
  std::string cache_salt = {};
  bool uses_prefix_cache = true;  // false: finds no blocks, and leaves none to be found
};

class Sequence {
 public:
  // An Error says that the prompt is empty.
  explicit Sequence(SequenceOptions options);

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

  // n_cached_tokens <= n_scheduled_tokens <= n_tokens + n_pending_tokens <= n_max_tokens: K and V
  // are in the cache; so after the steps in flight; known, and sampled by steps in flight with ids
  // not known yet (one a step); prompt and all that may be generated. The second is less than the
  // third where a token is pending: the newest is not fed back before the next step.
  std::int32_t n_cached_tokens() const { return n_cached_tokens_; }
  std::int32_t n_scheduled_tokens() const { return n_scheduled_tokens_; }
  std::int32_t n_tokens() const { return std::int32_t(ids_.size()); }
  std::int32_t n_pending_tokens() const { return n_pending_tokens_; }
  std::int32_t n_max_tokens() const { return n_max_tokens_; }

  // Positions that will ever be cached: the last generated token is never fed back.
  std::int32_t n_max_cached_tokens() const;
  // Tokens, known or pending, that the next step may bring.
  std::int32_t n_unscheduled_tokens() const;
  // Nothing is left to compute or to sample, and all ids are known: the engine owes it a finish().
  bool is_exhausted() const;

  // Block i holds positions [i * block_tokens, (i + 1) * block_tokens). The first
  // n_returned_blocks() are read no more and were given back: 0 stands for them.
  std::span<const std::int32_t> block_table() const { return block_table_; }
  std::int32_t n_returned_blocks() const { return n_returned_blocks_; }
  std::int32_t n_preemptions() const { return n_preemptions_; }
  // Tokens of the prompt that were in the cache when it first ran.
  std::int32_t n_prefix_tokens() const { return n_prefix_tokens_; }

  void check_integrity() const;

 private:
  friend class Scheduler;

  std::uint64_t id_;
  SequenceState state_ = SequenceState::created;
  bool want_all_logits_;
  bool uses_prefix_cache_;
  std::string cache_salt_;
  std::vector<std::int32_t> ids_;
  std::int32_t n_prompt_tokens_;
  std::int32_t n_cached_tokens_ = 0;
  std::int32_t n_scheduled_tokens_ = 0;
  std::int32_t n_pending_tokens_ = 0;
  std::int32_t n_max_tokens_;
  std::int32_t n_preemptions_ = 0;
  std::int32_t n_prefix_tokens_ = 0;
  std::uint64_t arrival_ = 0;  // order of add(): first come, first served
  std::uint64_t step_ = 0;     // the last that it is part of
  std::int32_t step_row_ = 0;  // of logits, in that step, where its newest token is sampled
  std::vector<std::int32_t> block_table_;
  std::int32_t n_returned_blocks_ = 0;

  ContentId root_ = 0;     // 0: not in the prefix cache
  ContentId content_ = 0;  // of its first n_known_blocks_ blocks
  std::int32_t n_known_blocks_ = 0;
  // While waiting: whoever came as this one (0: nobody) is computing its first n_awaited_blocks_.
  std::uint64_t awaited_arrival_ = 0;
  std::int32_t n_awaited_blocks_ = 0;
};

}  // namespace nereid::sched
