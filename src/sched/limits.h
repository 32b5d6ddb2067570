// Goal: the numbers that bound a step and the key-value cache, said once by whoever owns the memory
// and read by all who plan steps.
// Non-goal: how they are chosen from options, a model and a machine (the engine's).
#pragma once

#include <algorithm>
#include <cstdint>

namespace nereid::sched {

struct Limits {
  std::int64_t max_batch_tokens = 0;  // T of a step; prompts are cut into chunks that fit
  // T of a step in which sequences generate: prompts are cut to it then, so that nobody waits long
  // for the next token. At least max_sequences, at most max_batch_tokens; 0: max_batch_tokens.
  std::int64_t max_mixed_tokens = 0;
  std::int64_t max_sequences = 0;       // S of a step; at most max_batch_tokens
  std::int64_t max_logit_rows = 0;      // L of a step; at least max_sequences
  std::int64_t block_tokens = 0;        // positions of a block of the cache
  std::int64_t n_kv_blocks = 0;         // blocks of the cache, shared by all sequences
  std::int64_t max_context_tokens = 0;  // prompt and generated tokens of one sequence
  // A token reads so many of the newest positions at most, its own among them, in every layer:
  // blocks before those return to the pool while their sequence runs. 0: a layer reads all.
  std::int64_t window_tokens = 0;
  bool prefix_caching = true;  // blocks are kept for prompts that start alike
  // Those of generated tokens too: kernels for decoding made them, which may round otherwise than
  // those that would compute the same tokens as a prompt.
  bool caches_answers = true;

  // The context, or less where the whole cache is smaller.
  std::int64_t max_sequence_tokens() const {
    return std::min(max_context_tokens, n_kv_blocks * block_tokens);
  }
  std::int64_t max_blocks_per_sequence() const {
    return (max_context_tokens + block_tokens - 1) / block_tokens;
  }
};

}  // namespace nereid::sched
