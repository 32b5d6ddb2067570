// Goal: a Runner whose next token is a function of everything a model may look at, read back
// through the batch's own arrays: a token written to a wrong cache slot, a stale block table or a
// lost seed changes the output.
// Non-goal: language.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/runner.h"

namespace nereid::engine {

class FakeRunner : public Runner {
 public:
  explicit FakeRunner(std::int64_t n_kv_blocks, std::int64_t max_batch_tokens = 16,
                      std::int64_t max_sequences = 4)
      : limits_{.max_batch_tokens = max_batch_tokens,
                .max_sequences = max_sequences,
                .max_logit_rows = max_sequences,
                .block_tokens = kBlockTokens,
                .n_kv_blocks = n_kv_blocks,
                .max_context_tokens = kContext},
        cache_(std::size_t(n_kv_blocks * kBlockTokens), -1),
        counts_(std::size_t(max_sequences)) {}

  static constexpr std::int64_t kBlockTokens = 4;
  static constexpr std::int64_t kVocab = 97;
  static constexpr std::int64_t kContext = 64;

  // The model itself: the token after `context`.
  static std::int32_t next_id(const std::vector<std::int32_t>& context, const SamplingRow& row) {
    std::uint64_t hash = 14695981039346656037U;
    const auto mix = [&](std::uint64_t value) { hash = (hash ^ value) * 1099511628211U; };
    for (const auto id : context) mix(std::uint64_t(id));
    if (row.params.temperature > 0) {
      mix(row.seed);
      mix(std::uint64_t(row.n_generated));
    }
    if (row.has_penalty())
      for (const auto id : std::set<std::int32_t>(context.begin(), context.end()))
        mix(std::uint64_t(id) + 1000);
    return std::int32_t((hash >> 20) % kVocab);
  }

  const sched::Limits& limits() const override { return limits_; }
  std::int64_t vocab_size() const override { return kVocab; }
  std::int64_t weight_bytes() const override { return 1000; }

  StepResult step(const StepRequest& request) override {
    if (n_steps++ == fail_at_step) throw Error("step {} fails", fail_at_step);
    const sched::StepBatch& batch = *request.batch;
    NEREID_CHECK(batch.block_table_stride == kContext / kBlockTokens, "{} columns",
                 batch.block_table_stride);
    for (std::int32_t t = 0; t < batch.n_tokens; ++t)
      cache_.at(std::size_t(batch.slot_mapping[std::size_t(t)])) = batch.token_ids[std::size_t(t)];
    count_tokens(request);
    ids_.clear();
    logprobs_.clear();
    logits_.clear();
    for (std::int32_t l = 0; l < batch.n_logit_rows; ++l) {
      const auto context = context_of_row(batch, batch.logit_rows[std::size_t(l)]);
      if (!request.target_ids.empty()) {
        logprobs_.push_back(logprob(context, request.target_ids[std::size_t(l)]));
        for (std::int64_t v = 0; v < kVocab; ++v)
          logits_.push_back(float(context.size() * 1000 + std::size_t(v)));
        continue;
      }
      const SamplingRow& row = request.sampling[std::size_t(l)];
      if (row.has_penalty()) check_counts(row, context);
      const bool is_odd = std::ranges::find(context, odd_id) != context.end();
      ids_.push_back(is_odd ? kNoChoice : next_id(context, row));
    }
    return {.ids = ids_, .logprobs = logprobs_};
  }

  // Of `target` after `context`.
  static float logprob(const std::vector<std::int32_t>& context, std::int32_t target) {
    SamplingRow row;
    return -0.01F * float((next_id(context, row) + target) % kVocab + 1);
  }

  void read_logits(std::span<float> out) override {
    NEREID_CHECK(out.size() == logits_.size(), "{} != {}", out.size(), logits_.size());
    std::copy(logits_.begin(), logits_.end(), out.begin());
  }

  void fill_slot(std::int32_t slot, std::span<const std::int32_t> prompt_ids,
                 std::span<const std::int32_t> generated_ids) override {
    counts_.at(std::size_t(slot)) = counts_of(prompt_ids, generated_ids);
  }

  int n_steps = 0;
  int fail_at_step = -1;
  std::int32_t odd_id = -1;  // a sequence with this id has logits that are not finite

 private:
  std::vector<std::int32_t> context_of_row(const sched::StepBatch& batch, std::int32_t t) const {
    const auto after = std::upper_bound(batch.cu_seqlens.begin(), batch.cu_seqlens.end(), t);
    const auto s = std::size_t(after - batch.cu_seqlens.begin() - 1);
    std::vector<std::int32_t> context;
    for (std::int64_t p = 0; p <= batch.positions[std::size_t(t)]; ++p) {
      const auto block = batch.block_tables[s * std::size_t(batch.block_table_stride) +
                                            std::size_t(p / kBlockTokens)];
      context.push_back(cache_.at(std::size_t(block * kBlockTokens + p % kBlockTokens)));
    }
    return context;
  }

  void count_tokens(const StepRequest& request) {
    if (request.token_slots.empty()) return;
    NEREID_CHECK(std::int64_t(request.token_slots.size()) == request.batch->n_tokens,
                 "{} slots for {} tokens", request.token_slots.size(), request.batch->n_tokens);
    std::set<std::int32_t> slots;
    for (std::size_t t = 0; t < request.token_slots.size(); ++t) {
      const auto slot = request.token_slots[t];
      if (slot < 0) continue;
      NEREID_CHECK(slots.insert(slot).second, "slot {} counts two tokens of a step", slot);
      counts_.at(std::size_t(slot))[request.batch->token_ids[t]] += 2;
    }
  }

  // 2 * times generated + (1 if in the prompt).
  using Counts = std::map<std::int32_t, int>;
  static Counts counts_of(std::span<const std::int32_t> prompt_ids,
                          std::span<const std::int32_t> generated_ids) {
    Counts counts;
    for (const auto id : prompt_ids) counts[id] = 1;
    for (const auto id : generated_ids) counts[id] += 2;
    return counts;
  }

  void check_counts(const SamplingRow& row, std::span<const std::int32_t> context) const {
    const auto n_prompt = context.size() - std::size_t(row.n_generated);
    if (counts_.at(std::size_t(row.slot)) !=
        counts_of(context.first(n_prompt), context.subspan(n_prompt)))
      throw std::logic_error("slot " + std::to_string(row.slot) +
                             " has counted other tokens than its context");
  }

  const sched::Limits limits_;
  std::vector<std::int32_t> cache_;  // a position's K and V: its token
  std::vector<Counts> counts_;       // by slot
  std::vector<std::int32_t> ids_;
  std::vector<float> logprobs_;
  std::vector<float> logits_;
};

}  // namespace nereid::engine
