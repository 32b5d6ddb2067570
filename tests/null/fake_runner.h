// Goal: a Runner whose next token is a function of everything a model may look at, read back
// through the batch's own arrays: a token written to a wrong cache slot, a stale block table, a
// lost seed or a table of another request changes the output. It may run behind the host, and fail.
// Non-goal: language.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/runner.h"

namespace nereid::engine {

struct FakeOptions {
  std::int64_t n_kv_blocks = 256;
  std::int64_t max_batch_tokens = 16;
  std::int64_t max_sequences = 4;
  std::int64_t max_mixed_tokens = 0;
  bool works_beside_host = false;
  bool prefix_caching = true;
};

class FakeRunner : public Runner {
 public:
  using Ids = std::vector<std::int32_t>;

  explicit FakeRunner(const FakeOptions& options)
      : limits_{.max_batch_tokens = options.max_batch_tokens,
                .max_mixed_tokens = options.max_mixed_tokens,
                .max_sequences = options.max_sequences,
                .max_logit_rows = options.max_sequences,
                .block_tokens = kBlockTokens,
                .n_kv_blocks = options.n_kv_blocks,
                .max_context_tokens = kContext,
                .prefix_caching = options.prefix_caching},
        works_beside_host_(options.works_beside_host),
        cache_(std::size_t(options.n_kv_blocks * kBlockTokens), -1),
        slots_(std::size_t(options.max_sequences)) {}

  static constexpr std::int64_t kBlockTokens = 4;
  static constexpr std::int64_t kVocab = 97;
  static constexpr std::int64_t kContext = 64;

  // What a slot of the device's tables holds.
  struct Slot {
    std::map<std::int32_t, int> n_generated;
    std::set<std::int32_t> prompt;
    std::vector<BiasRow> biases;
    Ids allowed_ids;
  };
  static constexpr std::size_t kMaskWords = (kVocab + 31) / 32;

  // The model itself: the token after `context`.
  static std::int32_t next_id(const Ids& context, const SamplingRow& row,
                              std::span<const BiasRow> biases = {},
                              std::span<const std::int32_t> allowed_ids = {}) {
    std::uint64_t hash = 14695981039346656037U;
    const auto mix = [&](std::uint64_t value) { hash = (hash ^ value) * 1099511628211U; };
    for (const auto id : context) mix(std::uint64_t(id));
    if (row.params.temperature > 0) {
      mix(row.seed);
      mix(std::uint64_t(row.n_generated));
    }
    if (row.has_penalty()) {
      mix(std::bit_cast<std::uint32_t>(row.params.presence_penalty));
      for (const auto id : std::set<std::int32_t>(context.begin(), context.end()))
        mix(std::uint64_t(id) + 1000);
    }
    std::set<std::int32_t> suppressed;
    for (const auto& [id, value, until] : biases) {
      if (value != 0) mix(std::bit_cast<std::uint32_t>(value) + std::uint64_t(id));
      if (row.n_generated < until) suppressed.insert(id);
    }
    Ids candidates;
    for (std::int32_t id = 0; id < kVocab; ++id)
      if ((allowed_ids.empty() || std::ranges::find(allowed_ids, id) != allowed_ids.end()) &&
          !suppressed.contains(id))
        candidates.push_back(id);
    return candidates.at((hash >> 20) % candidates.size());
  }

  // Of `target` after `context`.
  static float logprob(const Ids& context, std::int32_t target) {
    return -0.01F * float((next_id(context, {}) + target) % kVocab + 1);
  }
  // The i-th likeliest after `context`.
  static std::int32_t top_id(const Ids& context, std::int32_t i) {
    return (next_id(context, {}) + 7 * i) % std::int32_t(kVocab);
  }

  const sched::Limits& limits() const override { return limits_; }
  std::int64_t vocab_size() const override { return kVocab; }
  std::int64_t weight_bytes() const override { return 1000; }
  MemoryUse memory_use() const override { return {.weight_bytes = 1000, .peak_bytes = 1000}; }
  bool works_beside_host() const override { return works_beside_host_; }

  void queue(const StepRequest& request) override {
    NEREID_CHECK(results_.size() < 2 && held_.batch == nullptr, "{} steps are queued",
                 results_.size());
    const sched::StepBatch& batch = *request.batch;
    NEREID_CHECK(batch.block_table_stride == kContext / kBlockTokens, "{} columns",
                 batch.block_table_stride);
    if (is_lost_) throw Error(ErrorCode::device, "the device is lost");
    const int step = n_steps++;
    on_queue(step);
    const Ids last_ids = last_ids_;
    for (std::int32_t t = 0; t < batch.n_tokens; ++t) {
      auto id = batch.token_ids[std::size_t(t)];
      if (id < 0) id = std::max(0, last_ids.at(std::size_t(-1 - id)));
      cache_.at(std::size_t(batch.slot_mapping[std::size_t(t)])) = id;
      if (!request.token_slots.empty() && request.token_slots[std::size_t(t)] >= 0)
        ++slots_.at(std::size_t(request.token_slots[std::size_t(t)])).n_generated[id];
    }
    if (request.waits_for_masks) {
      held_ = request;
      // What the caller's spans hold may be another step's by then.
      held_rows_.assign(request.sampling.begin(), request.sampling.end());
      held_targets_.assign(request.target_ids.begin(), request.target_ids.end());
      held_.sampling = held_rows_;
      held_.target_ids = held_targets_;
      ++n_held_steps;
      return;
    }
    results_.push_back(compute(request));
    last_ids_ = results_.back().ids;
    on_queued(step);
  }

  // Filled with what a caller must write over.
  std::span<std::uint32_t> mask(std::int32_t slot) override {
    NEREID_CHECK(held_.batch != nullptr && results_.empty(), "{} steps run", results_.size());
    auto& words = masks_[slot];
    words.assign(kMaskWords, 0x5A5A5A5A);
    return words;
  }

  void queue_tail(std::span<const std::int32_t> slots) override {
    NEREID_CHECK(held_.batch != nullptr && results_.empty(), "{} steps run", results_.size());
    NEREID_CHECK(std::ranges::is_sorted(slots, std::less_equal<>()), "slots do not ascend");
    if (is_lost_) throw Error(ErrorCode::device, "the device is lost");
    on_tail(n_steps - 1);
    for (const auto slot : slots) {
      auto& ids = slots_.at(std::size_t(slot)).allowed_ids;
      ids.clear();
      const auto& words = masks_.at(slot);
      for (std::int32_t id = 0; id < kVocab; ++id)
        if (((words[std::size_t(id) / 32] >> (id % 32)) & 1) != 0) ids.push_back(id);
    }
    results_.push_back(compute(held_));
    held_ = {};
    last_ids_ = results_.back().ids;
    on_queued(n_steps - 1);
  }

  StepResult wait() override {
    NEREID_CHECK(!results_.empty(), "no step is queued");
    on_wait(n_waited++);
    // As long as a step is read, the next may be queued, and the one after it not.
    read_[n_read_ % 2] = std::move(results_.front());
    results_.pop_front();
    const Result& result = read_[n_read_++ % 2];
    return {.ids = result.ids,
            .logprobs = result.logprobs,
            .top_ids = result.top_ids,
            .top_logprobs = result.top_logprobs,
            .first_odd = {}};
  }

  void recover() override {
    results_.clear();
    held_ = {};
    n_waited = n_steps;
    if (is_lost_) throw Error(ErrorCode::device, "the device is lost");
  }

  void read_logits(std::span<float> out) override {
    NEREID_CHECK(out.size() == logits_.size(), "{} != {}", out.size(), logits_.size());
    std::copy(logits_.begin(), logits_.end(), out.begin());
  }

  void fill_slot(std::int32_t slot, const SlotTables& tables) override {
    Slot& filled = slots_.at(std::size_t(slot));
    filled = {.n_generated = {},
              .prompt = {tables.prompt_ids.begin(), tables.prompt_ids.end()},
              .biases = {tables.biases.begin(), tables.biases.end()},
              .allowed_ids = {tables.allowed_ids.begin(), tables.allowed_ids.end()}};
    for (const auto id : tables.generated_ids) ++filled.n_generated[id];
  }

  // What a step's kernels leave behind that failed half-way.
  void spoil(const sched::StepBatch& batch) {
    for (std::int32_t t = 0; t < batch.n_tokens; ++t)
      cache_.at(std::size_t(batch.slot_mapping[std::size_t(t)])) = 96;
  }
  void lose() { is_lost_ = true; }

  std::atomic<int> n_steps = 0;  // read while the service runs
  int n_waited = 0;
  int n_held_steps = 0;      // that waited for masks
  std::int32_t odd_id = -1;  // a sequence with this id has logits that are not finite
  std::int64_t n_computed_tokens = 0;

 protected:
  // May throw: before anything of a step is done, before the tail of one that waits for masks,
  // after all of it is done, when it is waited for.
  virtual void on_queue(int) {}
  virtual void on_tail(int) {}
  virtual void on_queued(int) {}
  virtual void on_wait(int) {}
  virtual std::int32_t choose(const Ids& context, const SamplingRow& row, const Slot& slot) {
    return next_id(context, row, slot.biases, slot.allowed_ids);
  }

 private:
  struct Result {
    Ids ids, top_ids;
    std::vector<float> logprobs, top_logprobs;
  };

  Result compute(const StepRequest& request) {
    const sched::StepBatch& batch = *request.batch;
    n_computed_tokens += batch.n_tokens;
    Result result;
    logits_.clear();
    const bool only_scores = request.sampling.empty() && !request.target_ids.empty();
    for (std::int32_t l = 0; l < batch.n_logit_rows; ++l) {
      const auto context = context_of_row(batch, batch.logit_rows[std::size_t(l)]);
      if (only_scores) {
        result.logprobs.push_back(logprob(context, request.target_ids[std::size_t(l)]));
        for (std::int64_t v = 0; v < kVocab; ++v)
          logits_.push_back(float(context.size() * 1000 + std::size_t(v)));
        continue;
      }
      const SamplingRow& row = request.sampling[std::size_t(l)];
      const Slot slot = row.slot >= 0 ? slots_.at(std::size_t(row.slot)) : Slot();
      if (row.has_penalty()) check_counts(slot, row, context);
      const bool is_odd = std::ranges::find(context, odd_id) != context.end();
      result.ids.push_back(is_odd ? kNoChoice : choose(context, row, slot));
      const auto target = request.target_ids[std::size_t(l)];
      result.logprobs.push_back(logprob(context, target >= 0 ? target : result.ids.back()));
      for (std::int32_t i = 0; i < kMaxLogprobs; ++i) {
        const bool is_set = i < row.n_top;
        result.top_ids.push_back(is_set ? top_id(context, i) : -9);
        result.top_logprobs.push_back(is_set ? logprob(context, result.top_ids.back()) : 9);
      }
    }
    return result;
  }

  Ids context_of_row(const sched::StepBatch& batch, std::int32_t t) const {
    const auto after = std::upper_bound(batch.cu_seqlens.begin(), batch.cu_seqlens.end(), t);
    const auto s = std::size_t(after - batch.cu_seqlens.begin() - 1);
    Ids context;
    for (std::int64_t p = 0; p <= batch.positions[std::size_t(t)]; ++p) {
      const auto block = batch.block_tables[s * std::size_t(batch.block_table_stride) +
                                            std::size_t(p / kBlockTokens)];
      context.push_back(cache_.at(std::size_t(block * kBlockTokens + p % kBlockTokens)));
    }
    return context;
  }

  static void check_counts(const Slot& slot, const SamplingRow& row, const Ids& context) {
    const auto n_prompt = std::ptrdiff_t(context.size()) - row.n_generated;
    const std::set<std::int32_t> prompt(context.begin(), context.begin() + n_prompt);
    std::map<std::int32_t, int> n_generated;
    for (auto id = context.begin() + n_prompt; id != context.end(); ++id) ++n_generated[*id];
    if (slot.prompt != prompt || slot.n_generated != n_generated)
      throw std::logic_error("a slot has counted other tokens than its context's");
  }

  const sched::Limits limits_;
  bool works_beside_host_;
  bool is_lost_ = false;
  Ids cache_;  // a position's K and V: its token
  std::vector<Slot> slots_;
  Ids last_ids_;
  std::deque<Result> results_;  // queued, and not waited for
  std::array<Result, 2> read_;
  std::size_t n_read_ = 0;
  std::vector<float> logits_;
  StepRequest held_;  // batch null: none
  std::vector<SamplingRow> held_rows_;
  Ids held_targets_;
  std::map<std::int32_t, std::vector<std::uint32_t>> masks_;  // by slot
};

}  // namespace nereid::engine
