#include "engine/runner.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "base/error.h"
#include "program/parallel_program.h"

namespace nereid::engine {

namespace {

namespace names = model::names;

template <typename T>
void copy_into(std::span<T> target, std::span<const T> source) {
  NEREID_CHECK(source.size() <= target.size(), "{} elements for {}", source.size(), target.size());
  std::copy(source.begin(), source.end(), target.begin());
}

// The inputs of a step, found once.
struct Handles {
  explicit Handles(const program::StepInputs& inputs)
      : token_ids(inputs.handle(names::kTokenIds)),
        positions(inputs.handle(names::kPositions)),
        slots(inputs.handle(names::kSlots)),
        query_starts(inputs.handle(names::kQueryStarts)),
        context_lens(inputs.handle(names::kContextLens)),
        logit_rows(inputs.handle(names::kLogitRows)),
        targets(inputs.handle(names::kTargets)),
        token_slots(inputs.handle(names::kTokenSlots)) {}

  int token_ids, positions, slots, query_starts, context_lens, logit_rows, targets, token_slots;
};

class ProgramRunner final : public Runner {
 public:
  ProgramRunner(std::span<device::Device* const> devices, const model::ModelConfig& config,
                const Options& options, const ProgressSink& progress)
      : device_(*devices[0]),
        program_(devices, config, options, progress),
        handles_(program_.inputs()),
        sampling_inputs_(program_.inputs()),
        print_launches_(options.print_launches) {
    program_.warm();
  }

  const sched::Limits& limits() const override { return program_.limits(); }
  std::int64_t vocab_size() const override { return program_.config().vocab_size; }
  std::int64_t weight_bytes() const override { return program_.weight_bytes(); }
  MemoryUse memory_use() const override { return program_.memory_use(); }
  // Where kernels read host memory, the host is what runs them.
  bool works_beside_host() const override { return !device_.reads_host_memory(); }

  void queue(const StepRequest& request) override {
    const auto& batch = *request.batch;
    const program::Step step{tail_of(request),
                             {.n_tokens = batch.n_tokens,
                              .n_sequences = batch.n_sequences,
                              .n_decodes = batch.n_decodes,
                              .n_logits = batch.n_logit_rows,
                              .max_query_tokens = batch.max_q_len,
                              .is_uneven = batch.is_uneven()},
                             request.waits_for_masks};
    fill_inputs(request, program_.begin(step));
    program_.queue(step);
    if (!step.waits_for_masks) note_queued(step.tail);
  }

  std::span<std::uint32_t> mask(std::int32_t slot) override { return program_.mask(slot); }

  void queue_tail(std::span<const std::int32_t> slots) override {
    program_.queue_tail(slots);
    note_queued(model::Tail::full);
  }

  StepResult wait() override {
    const auto output = program_.wait();
    const auto tail = std::exchange(tails_[0], tails_[1]);
    --n_queued_;
    StepResult result;
    result.first_odd = output.first_odd;
    if (tail == model::Tail::logprob) {
      result.logprobs = values<float>(output.values[0]);
      return result;
    }
    result.ids = values<std::int32_t>(output.values[0]);
    result.logprobs = values<float>(output.values[1]);
    result.top_ids = values<std::int32_t>(output.values[2]);
    result.top_logprobs = values<float>(output.values[3]);
    return result;
  }

  void recover() override {
    n_queued_ = 0;
    program_.recover();
  }

  void read_logits(std::span<float> out) override { program_.read_logits(out); }

  void fill_slot(std::int32_t slot, const SlotTables& tables) override {
    NEREID_CHECK(slot >= 0 && slot < limits().max_sequences, "slot {}", slot);
    const auto n_vocab = static_cast<std::size_t>(vocab_size());
    // As kernels/count_tokens.py has them.
    row_.assign(n_vocab, 0);
    for (const auto id : tables.prompt_ids) row_[static_cast<std::size_t>(id)] |= 1;
    for (const auto id : tables.generated_ids) row_[static_cast<std::size_t>(id)] += 2;
    write_row(names::kTokenCounts, slot);

    constexpr auto kNBiases = static_cast<std::size_t>(kMaxTokenBiases);
    NEREID_CHECK(tables.biases.size() <= kNBiases, "{} biases", tables.biases.size());
    const auto write_column = [&](const char* name, std::int32_t unused, auto value) {
      row_.assign(kNBiases, unused);
      std::ranges::transform(tables.biases, row_.begin(), value);
      write_row(name, slot);
    };
    write_column(names::kBiasIds, -1, [](const BiasRow& row) { return row.id; });
    write_column(names::kBiasValues, 0,
                 [](const BiasRow& row) { return std::bit_cast<std::int32_t>(row.value); });
    write_column(names::kBiasUntil, 0, [](const BiasRow& row) { return row.until; });

    constexpr std::size_t kBits = 32;
    row_.assign((n_vocab + kBits - 1) / kBits, tables.allowed_ids.empty() ? -1 : 0);
    for (const auto id : tables.allowed_ids) {
      const auto bit = static_cast<std::size_t>(id);
      row_[bit / kBits] |= static_cast<std::int32_t>(1U << (bit % kBits));
    }
    write_row(names::kAllowed, slot);
  }

 private:
  void note_queued(model::Tail tail) {
    tails_[n_queued_++] = tail;
    if (std::exchange(print_launches_, false)) fmt::print(stderr, "{}", program_.trace());
  }

  template <typename T>
  static std::span<const T> values(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }

  static model::Tail tail_of(const StepRequest& request) {
    if (request.sampling.empty() && !request.target_ids.empty()) return model::Tail::logprob;
    if (std::ranges::any_of(request.sampling, &SamplingRow::needs_tables)) return model::Tail::full;
    const bool is_greedy = std::ranges::all_of(
        request.sampling, [](const SamplingRow& row) { return row.params.temperature <= 0.0F; });
    return is_greedy ? model::Tail::greedy : model::Tail::sample;
  }

  void fill_inputs(const StepRequest& request, program::StepInputs& inputs) {
    const auto& batch = *request.batch;
    const auto fill = [&](int handle, std::span<const std::int32_t> source, std::int64_t n) {
      copy_into(inputs.elements<std::int32_t>(handle), source.first(static_cast<std::size_t>(n)));
    };
    fill(handles_.token_ids, batch.token_ids, batch.n_tokens);
    fill(handles_.positions, batch.positions, batch.n_tokens);
    fill(handles_.slots, batch.slot_mapping, batch.n_tokens);
    fill(handles_.query_starts, batch.cu_seqlens, batch.n_sequences + 1);
    fill(handles_.context_lens, batch.context_lens, batch.n_sequences);
    NEREID_CHECK(batch.block_table_stride == limits().max_blocks_per_sequence(),
                 "block tables of {} columns", batch.block_table_stride);
    for (std::size_t s = 0; s < static_cast<std::size_t>(batch.n_sequences); ++s) {
      const auto n_blocks =
          (batch.context_lens[s] + limits().block_tokens - 1) / limits().block_tokens;
      inputs.set_table_row(s, std::span(batch.block_tables)
                                  .subspan(s * static_cast<std::size_t>(batch.block_table_stride),
                                           static_cast<std::size_t>(n_blocks)));
    }
    fill(handles_.logit_rows, batch.logit_rows, batch.n_logit_rows);
    if (!request.target_ids.empty()) fill(handles_.targets, request.target_ids, batch.n_logit_rows);
    if (request.token_slots.empty())
      std::ranges::fill(inputs.elements<std::int32_t>(handles_.token_slots)
                            .first(static_cast<std::size_t>(batch.n_tokens)),
                        -1);
    else
      fill(handles_.token_slots, request.token_slots, batch.n_tokens);
    sampling_inputs_.fill(inputs, request.sampling);
  }

  // All of row_ into the slot's row.
  void write_row(const char* table, std::int32_t slot) {
    const auto bytes = std::as_bytes(std::span(row_));
    program_.write_state(table, static_cast<std::size_t>(slot) * bytes.size(), bytes);
  }

  device::Device& device_;  // as the others are
  program::ParallelProgram program_;
  Handles handles_;
  SamplingInputs sampling_inputs_;
  std::array<model::Tail, 2> tails_{};  // of the steps that are queued, the oldest first
  std::size_t n_queued_ = 0;
  std::vector<std::int32_t> row_;  // of a slot's tables
  bool print_launches_;
};

}  // namespace

std::string not_finite_text(std::string_view first_odd) {
  constexpr std::string_view kWhat = "the model's logits are not finite (NaN or infinite)";
  if (first_odd.empty())
    return fmt::format("{}; --check-numbers says where they first appear", kWhat);
  return fmt::format("{}; first: {}", kWhat, first_odd);
}

std::unique_ptr<Runner> Runner::create(std::span<device::Device* const> devices,
                                       const model::ModelConfig& config, const Options& options,
                                       const ProgressSink& progress) {
  return std::make_unique<ProgramRunner>(devices, config, options, progress);
}

}  // namespace nereid::engine
