#include "engine/runner.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "program/program.h"

namespace nereid::engine {

namespace {

namespace names = model::names;

template <typename T>
void copy_into(std::span<T> target, std::span<const T> source) {
  NEREID_CHECK(source.size() <= target.size(), "{} elements for {}", source.size(), target.size());
  std::copy(source.begin(), source.end(), target.begin());
}

// The inputs of a step where the program reads them.
struct Inputs {
  explicit Inputs(program::StepInputs& inputs) {
    const auto find = [&](std::span<std::int32_t>& elements, const char* name) {
      elements = inputs.elements<std::int32_t>(inputs.handle(name));
    };
    find(token_ids, names::kTokenIds);
    find(positions, names::kPositions);
    find(slots, names::kSlots);
    find(query_starts, names::kQueryStarts);
    find(context_lens, names::kContextLens);
    find(block_tables, names::kBlockTables);
    find(logit_rows, names::kLogitRows);
    find(targets, names::kTargets);
    find(token_slots, names::kTokenSlots);
  }

  std::span<std::int32_t> token_ids, positions, slots, query_starts, context_lens, block_tables;
  std::span<std::int32_t> logit_rows, targets, token_slots;
};

class ProgramRunner final : public Runner {
 public:
  ProgramRunner(device::Device& device, const model::ModelConfig& config, const Options& options)
      : program_(device, config, options),
        inputs_(program_.inputs()),
        sampling_inputs_(program_.inputs()),
        counts_(static_cast<std::size_t>(vocab_size())),
        no_biases_(static_cast<std::size_t>(model::kMaxBiases), -1),
        all_allowed_(static_cast<std::size_t>(model::n_mask_words(vocab_size())), -1),
        print_launches_(options.print_launches) {
    program_.warm();
  }

  const sched::Limits& limits() const override { return program_.limits(); }
  std::int64_t vocab_size() const override { return program_.config().vocab_size; }
  std::int64_t weight_bytes() const override { return program_.weight_bytes(); }

  StepResult step(const StepRequest& request) override {
    const auto& batch = *request.batch;
    const auto tail = tail_of(request);
    fill_inputs(request, tail);
    const auto output = program_.run({tail,
                                      {.n_tokens = batch.n_tokens,
                                       .n_sequences = batch.n_sequences,
                                       .n_decodes = batch.n_decodes,
                                       .n_logits = batch.n_logit_rows,
                                       .max_query_tokens = batch.max_q_len}});
    if (print_launches_) {
      fmt::print(stderr, "{}", program_.trace());
      print_launches_ = false;
    }
    const auto n_rows = static_cast<std::size_t>(batch.n_logit_rows);
    const auto* data = output.rows.data();
    StepResult result{{}, {}, output.queued, output.first_odd};
    if (tail == model::Tail::logprob)
      result.logprobs = {reinterpret_cast<const float*>(data), n_rows};
    else
      result.ids = {reinterpret_cast<const std::int32_t*>(data), n_rows};
    return result;
  }

  void read_logits(std::span<float> out) override { program_.read_logits(out); }

  void fill_slot(std::int32_t slot, std::span<const std::int32_t> prompt_ids,
                 std::span<const std::int32_t> generated_ids) override {
    NEREID_CHECK(slot >= 0 && slot < limits().max_sequences, "slot {}", slot);
    // As kernels/count_tokens.py has them.
    std::ranges::fill(counts_, 0);
    for (const auto id : prompt_ids) counts_[static_cast<std::size_t>(id)] = 1;
    for (const auto id : generated_ids) counts_[static_cast<std::size_t>(id)] += 2;
    const auto write = [&](const char* name, std::span<const std::int32_t> row) {
      program_.write_state(name, static_cast<std::size_t>(slot) * row.size_bytes(),
                           std::as_bytes(row));
    };
    write(names::kTokenCounts, counts_);
    write(names::kBiasIds, no_biases_);
    write(names::kAllowed, all_allowed_);
  }

 private:
  static model::Tail tail_of(const StepRequest& request) {
    if (!request.target_ids.empty()) return model::Tail::logprob;
    if (std::ranges::any_of(request.sampling,
                            [](const SamplingRow& row) { return row.slot >= 0 || row.n_top >= 0; }))
      return model::Tail::full;
    const bool is_greedy =
        std::all_of(request.sampling.begin(), request.sampling.end(),
                    [](const SamplingRow& row) { return row.params.temperature <= 0.0F; });
    return is_greedy ? model::Tail::greedy : model::Tail::sample;
  }

  void fill_inputs(const StepRequest& request, model::Tail tail) {
    const auto& batch = *request.batch;
    const auto ids = [](std::span<std::int32_t> target, std::span<const std::int32_t> source,
                        std::int64_t n) {
      copy_into(target, source.first(static_cast<std::size_t>(n)));
    };
    ids(inputs_.token_ids, batch.token_ids, batch.n_tokens);
    ids(inputs_.positions, batch.positions, batch.n_tokens);
    ids(inputs_.slots, batch.slot_mapping, batch.n_tokens);
    ids(inputs_.query_starts, batch.cu_seqlens, batch.n_sequences + 1);
    ids(inputs_.context_lens, batch.context_lens, batch.n_sequences);
    NEREID_CHECK(batch.block_table_stride == limits().max_blocks_per_sequence(),
                 "block tables of {} columns", batch.block_table_stride);
    ids(inputs_.block_tables, batch.block_tables,
        std::int64_t{batch.n_sequences} * batch.block_table_stride);
    ids(inputs_.logit_rows, batch.logit_rows, batch.n_logit_rows);
    if (tail == model::Tail::full) {
      std::ranges::fill(inputs_.targets, -1);
      std::ranges::fill(inputs_.token_slots, -1);
    }
    if (!request.target_ids.empty()) ids(inputs_.targets, request.target_ids, batch.n_logit_rows);
    if (!request.token_slots.empty()) ids(inputs_.token_slots, request.token_slots, batch.n_tokens);
    sampling_inputs_.fill(program_.inputs(), request.sampling);
  }

  program::Program program_;
  Inputs inputs_;
  SamplingInputs sampling_inputs_;
  // Rows of the tables by slot: of the slot at hand, and of a request that asks nothing.
  std::vector<std::int32_t> counts_, no_biases_, all_allowed_;
  bool print_launches_;
};

}  // namespace

std::string not_finite_text(std::string_view first_odd) {
  constexpr std::string_view kWhat = "the model's logits are not finite (NaN or infinite)";
  if (first_odd.empty())
    return fmt::format("{}; --check-numbers says where they first appear", kWhat);
  return fmt::format("{}; first: {}", kWhat, first_odd);
}

std::unique_ptr<Runner> Runner::create(device::Device& device, const model::ModelConfig& config,
                                       const Options& options) {
  return std::make_unique<ProgramRunner>(device, config, options);
}

}  // namespace nereid::engine
