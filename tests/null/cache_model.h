// Goal: a model that cannot be fooled: it keeps a paged cache of what was written where, reads each
// context back through a batch's block tables, and samples from all it read. Whatever the batching,
// chunking, sharing and preemptions, a sequence must generate what it generates alone.
// Non-goal: language.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sched/limits.h"
#include "sched/sequence.h"
#include "sched/step_batch.h"

namespace nereid::sched {

inline std::int32_t next_token(std::span<const std::int32_t> context) {
  std::uint32_t hash = 2166136261u;
  for (const std::int32_t id : context) hash = (hash ^ std::uint32_t(id)) * 16777619u;
  return std::int32_t(hash >> 8) % 1000;
}

// The first position that the token at `position` reads.
inline std::int32_t first_read(std::int32_t position, std::int64_t window) {
  return window == 0 ? 0 : std::int32_t(std::max<std::int64_t>(position + 1 - window, 0));
}

inline std::vector<std::int32_t> generate_alone(std::vector<std::int32_t> ids, std::size_t n_new,
                                                std::int64_t window = 0) {
  const std::size_t n_prompt = ids.size();
  while (ids.size() < n_prompt + n_new)
    ids.push_back(next_token(
        std::span(ids).subspan(std::size_t(first_read(std::int32_t(ids.size()) - 1, window)))));
  return {ids.begin() + std::ptrdiff_t(n_prompt), ids.end()};
}

inline std::vector<std::int32_t> prompt(std::size_t n, std::int32_t first = 1) {
  std::vector<std::int32_t> ids(n);
  for (std::size_t i = 0; i < n; ++i) ids[i] = first + std::int32_t(i);
  return ids;
}

inline Sequence make(std::uint64_t id, std::vector<std::int32_t> prompt_ids,
                     std::int32_t max_new_tokens, bool want_all_logits = false) {
  return Sequence({.id = id,
                   .prompt_ids = std::move(prompt_ids),
                   .max_new_tokens = max_new_tokens,
                   .want_all_logits = want_all_logits});
}

inline Limits small_limits() {
  return {.max_batch_tokens = 32,
          .max_sequences = 4,
          .max_logit_rows = 32,
          .block_tokens = 8,
          .n_kv_blocks = 64,
          .max_context_tokens = 128};
}

inline std::vector<std::uint64_t> batch_ids(const StepBatch& batch) {
  std::vector<std::uint64_t> ids;
  for (const Sequence* sequence : batch.sequences) ids.push_back(sequence->id());
  return ids;
}

class CacheModel {
 public:
  explicit CacheModel(const Limits& limits)
      : limits_(limits), slots_(std::size_t(limits.n_kv_blocks * limits.block_tokens)) {}

  // To be called for the steps in their order, each right after it was made. Writes the batch's
  // tokens, then reads every context back. Returns the sampled ids.
  std::vector<std::int32_t> run(const StepBatch& batch) {
    check_form(batch);
    for (std::int32_t s = 0; s < batch.n_sequences; ++s)
      for (std::int32_t t = batch.cu_seqlens[std::size_t(s)];
           t < batch.cu_seqlens[std::size_t(s) + 1]; ++t)
        slot(batch.slot_mapping[std::size_t(t)]) = {id_of(batch.token_ids[std::size_t(t)]),
                                                    batch.positions[std::size_t(t)],
                                                    batch.sequences[std::size_t(s)]->id()};
    std::map<std::int32_t, std::int32_t> id_after_row;
    for (std::int32_t s = 0; s < batch.n_sequences; ++s) {
      std::vector<std::int32_t> context;
      const Sequence& sequence = *batch.sequences[std::size_t(s)];
      const std::int32_t context_len = batch.context_lens[std::size_t(s)];
      const std::int32_t end = batch.cu_seqlens[std::size_t(s) + 1];
      const std::int32_t begin = batch.cu_seqlens[std::size_t(s)];
      const std::int32_t first = first_read(context_len - (end - begin), limits_.window_tokens);
      for (std::int32_t position = first; position < context_len; ++position) {
        const std::int32_t block = batch.block_tables[std::size_t(s * batch.block_table_stride +
                                                                  position / limits_.block_tokens)];
        const Slot& read =
            slot(std::int32_t(block * limits_.block_tokens + position % limits_.block_tokens));
        EXPECT_EQ(read.position, position);
        if (position < sequence.n_tokens()) {
          EXPECT_EQ(read.id, sequence.ids()[std::size_t(position)]);
        }
        if (read.writer != sequence.id()) {
          EXPECT_EQ(shares_with.count({sequence.id(), read.writer}), 1u)
              << sequence.id() << " reads what " << read.writer << " wrote";
        }
        context.push_back(read.id);
      }
      for (std::int32_t t = begin; t < end; ++t) {
        const std::int32_t position = context_len - (end - t);
        EXPECT_EQ(batch.positions[std::size_t(t)], position);
        const std::int32_t oldest = first_read(position, limits_.window_tokens);
        id_after_row[t] = next_token(std::span(context).subspan(
            std::size_t(oldest - first), std::size_t(position - oldest + 1)));
      }
    }
    last_ids_.clear();
    for (std::int32_t row = 0; row < batch.n_sample_rows; ++row)
      last_ids_.push_back(id_after_row.at(batch.logit_rows[std::size_t(row)]));
    n_computed_tokens += batch.n_tokens;
    return last_ids_;
  }

  // What a step leaves that fails: nothing that may be read.
  void spoil(const std::vector<std::int32_t>& slot_mapping) {
    for (const std::int32_t index : slot_mapping) slot(index) = {-7, -7, ~0ull};
  }

  std::int64_t n_computed_tokens = 0;
  // (reader, writer): who may read whose blocks.
  std::set<std::pair<std::uint64_t, std::uint64_t>> shares_with;

 private:
  struct Slot {
    std::int32_t id = -1;
    std::int32_t position = -1;
    std::uint64_t writer = 0;
  };

  Slot& slot(std::int32_t index) { return slots_.at(std::size_t(index)); }

  std::int32_t id_of(std::int32_t entry) const {
    return entry >= 0 ? entry : last_ids_.at(std::size_t(-1 - entry));
  }

  void check_form(const StepBatch& batch) const {
    const auto n_tokens = std::size_t(batch.n_tokens);
    const auto n_sequences = std::size_t(batch.n_sequences);
    ASSERT_LE(batch.n_tokens, batch.n_decodes > 0 && limits_.max_mixed_tokens > 0
                                  ? limits_.max_mixed_tokens
                                  : limits_.max_batch_tokens);
    ASSERT_LE(batch.n_sequences, limits_.max_sequences);
    ASSERT_EQ(batch.token_ids.size(), n_tokens);
    ASSERT_EQ(batch.positions.size(), n_tokens);
    ASSERT_EQ(batch.slot_mapping.size(), n_tokens);
    ASSERT_EQ(batch.cu_seqlens.size(), n_sequences + 1);
    ASSERT_EQ(batch.cu_seqlens.back(), batch.n_tokens);
    ASSERT_EQ(batch.context_lens.size(), n_sequences);
    ASSERT_EQ(batch.sequences.size(), n_sequences);
    ASSERT_EQ(batch.logit_rows.size(), std::size_t(batch.n_logit_rows));
    ASSERT_EQ(batch.row_sequences.size(), std::size_t(batch.n_logit_rows));
    ASSERT_LE(batch.n_sample_rows, batch.n_logit_rows);
    ASSERT_LE(batch.n_logit_rows, limits_.max_logit_rows);
    const std::set<std::int32_t> slots(batch.slot_mapping.begin(), batch.slot_mapping.end());
    ASSERT_EQ(slots.size(), n_tokens) << "two tokens write one slot";
    const std::set<std::int32_t> rows(batch.logit_rows.begin(), batch.logit_rows.end());
    ASSERT_EQ(rows.size(), std::size_t(batch.n_logit_rows)) << "a row of logits twice";
    std::int32_t max_q_len = 0;
    for (std::size_t s = 0; s < n_sequences; ++s) {
      const Sequence& sequence = *batch.sequences[s];
      const std::int32_t q_len = batch.cu_seqlens[s + 1] - batch.cu_seqlens[s];
      ASSERT_GE(q_len, 1);
      ASSERT_EQ(batch.context_lens[s], sequence.n_scheduled_tokens());
      if (std::int32_t(s) < batch.n_decodes) {
        ASSERT_EQ(q_len, 1);
        ASSERT_GT(batch.context_lens[s], sequence.n_prompt_tokens());
      }
      max_q_len = std::max(max_q_len, q_len);
      const auto table = sequence.block_table();
      for (std::int32_t i = 0; i < batch.block_table_stride; ++i)
        ASSERT_EQ(batch.block_tables[s * std::size_t(batch.block_table_stride) + std::size_t(i)],
                  std::size_t(i) < table.size() ? table[std::size_t(i)] : 0);
    }
    ASSERT_EQ(batch.max_q_len, max_q_len);
  }

  Limits limits_;
  std::vector<Slot> slots_;
  std::vector<std::int32_t> last_ids_;
};

}  // namespace nereid::sched
