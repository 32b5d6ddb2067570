// Goal: one step's work as the flat arrays that kernels read. Generating sequences come first.
// Letters: T tokens, S sequences, L rows of logits, B blocks of the longest possible sequence.
// Non-goal: device memory; the runner uploads these.
// Rejected: arrays made anew each step. They are refilled in place: nothing is allocated.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nereid::sched {

class Sequence;

struct StepBatch {
  std::int32_t n_tokens = 0;     // T; 0: nothing to run
  std::int32_t n_sequences = 0;  // S
  // Nothing to run for want of blocks: complete the step in flight, and schedule again.
  bool is_short_of_blocks = false;
  // The first n_decodes of S bring one generated token each.
  std::int32_t n_decodes = 0;
  std::int32_t n_logit_rows = 0;  // L
  // The first n_sample_rows of L get a sampled id; the rest are only scored.
  std::int32_t n_sample_rows = 0;
  std::int32_t max_q_len = 0;           // tokens of the longest sequence in this step
  std::int32_t max_context_len = 0;     // largest of context_lens
  std::int32_t block_table_stride = 0;  // B

  // [T] -1 - r: what row r of the step before, still in flight, chooses.
  std::vector<std::int32_t> token_ids;
  std::vector<std::int32_t> positions;     // [T]
  std::vector<std::int32_t> slot_mapping;  // [T] where K and V go: block * block_tokens + offset
  std::vector<std::int32_t> cu_seqlens;    // [S+1] first token of each sequence in T
  std::vector<std::int32_t> context_lens;  // [S] cached positions once this step is done
  std::vector<std::int32_t> block_tables;  // [S, B] row-major; 0 past a sequence's blocks
  std::vector<std::int32_t> logit_rows;    // [L] index in T

  // Null: finished since the step was made; what the step gives for it is of no use.
  std::vector<Sequence*> sequences;      // [S]
  std::vector<Sequence*> row_sequences;  // [L]

  // A kernel that gives each sequence that decodes the same part of a machine would leave much of
  // it idle: they are few and one is long, or one of many has far more context than the average.
  bool is_uneven() const {
    constexpr std::int64_t kManySequences = 8, kLongOfFewTokens = 1536, kLongTokens = 2048,
                           kTimesTheMean = 4;
    std::int64_t longest = 0, total = 0;
    for (std::int32_t s = 0; s < n_decodes; ++s) {
      const std::int64_t context_len = context_lens[std::size_t(s)];
      longest = std::max(longest, context_len);
      total += context_len;
    }
    if (n_decodes <= kManySequences) return longest > kLongOfFewTokens;
    return longest > kLongTokens && longest * n_decodes > kTimesTheMean * total;
  }
};

}  // namespace nereid::sched
