// Goal: one model, or a rank's part of one, on one device, ready to run: it owns all that a step
// needs (planner, bundle, loaded kernels, weights, states, activations, captured steps) and runs
// steps of any size, of which two may be queued at a time. Non-goal: which sequences run and how
// their ids are chosen (engine). Rejected: interpreting the graph in each step: look-ups by name
// and allocation in the hottest host loop.
//
//   Program program(device, config, options);
//   program.warm();
//   const Step step{model::Tail::greedy, {.n_tokens = 2, .n_sequences = 2, .n_decodes = 2,
//   .n_logits = 2}}; auto& inputs = program.begin(step); auto ids =
//   inputs.elements<std::int32_t>(inputs.handle("token_ids"));
//   ...                                              // fill what the step reads
//   program.queue(step);
//   program.wait();
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/progress.h"
#include "device/device.h"
#include "kernel/bundle.h"
#include "model/checkpoint.h"
#include "nereid/memory_use.h"
#include "nereid/options.h"
#include "program/exchange.h"
#include "program/executor.h"
#include "program/mask_rows.h"
#include "program/planner.h"
#include "program/states.h"
#include "program/step_inputs.h"
#include "program/weights.h"

namespace nereid::program {

struct Step {
  model::Tail tail = model::Tail::greedy;
  graph::Sizes sizes;
  // What reads the state `allowed`, and all after it, is held until queue_tail(). Tail::full only.
  bool waits_for_masks = false;
};

// What a tail gives (model::build_graph) but for logits: ids first, where it chooses any.
inline constexpr std::size_t kMaxStepOutputs = 4;

struct StepOutput {
  // Each [n_logits, ...]. Valid until the step after the next is queued.
  std::array<std::span<const std::byte>, kMaxStepOutputs> values;
  std::string_view first_odd;  // check_numbers: where the first NaN or infinity appeared
};

class Program {
 public:
  // Loads weights, finds or compiles the kernels, and allocates. Errors: whatever a model
  // directory, a bundle or memory can lack.
  // `bundle`: in place of what would be found. `rank`: of several, which are set up at the same
  // time and run the same steps.
  Program(device::Device& device, const model::ModelConfig& config, const Options& options,
          std::optional<kernel::Bundle> bundle = {}, const ProgressSink& progress = {},
          const Rank& rank = {});
  ~Program();

  const model::ModelConfig& config() const { return config_; }
  const sched::Limits& limits() const { return settings_.limits; }
  const Planner& planner() const { return *planner_; }
  std::int64_t weight_bytes() const { return weights_.bytes(); }
  MemoryUse memory_use() const;

  // Loads what short prompts and decoding steps of up to max_sequences need; where steps are
  // captured, runs the latter once on nothing and captures those of max_sequences.
  void warm();

  const StepInputs& inputs() const { return inputs_; }
  // What the step is to read, to be filled for its sizes.
  StepInputs& begin(const Step& step);
  // Of the step begun: those that another rank's were filled with.
  void copy_inputs(const StepInputs& other) { inputs_.copy_from(other); }
  // Queues the step begun. Its plan is made when the first of its class comes; after that nothing
  // is allocated.
  void queue(const Step& step);
  // A row of `allowed` to be filled, while the step that is to read it has its tail held, and no
  // step before it is in flight.
  std::span<std::uint32_t> mask(std::int32_t slot) { return masks_.row(slot); }
  // The rest of a step that waits for masks: these rows are sent, in ascending order.
  void queue_tail(std::span<const std::int32_t> slots);
  // For the oldest step that is queued.
  StepOutput wait();
  // After a call that threw: nothing is queued any more. An Error says why the device can do no
  // more.
  void recover();

  // ---- of several ranks: who runs them may call these from another thread
  // Grows with each launch, each replay, and each class of steps that is made ready.
  std::uint64_t progress() const { return progress_; }
  // Ends what kernels wait for other ranks with; after that steps fail or are worth nothing until
  // recover(), after which all ranks must be given one epoch.
  void stop_waiting() { exchange_.stop_waiting(); }
  std::int32_t epoch() const { return epoch_; }
  void set_epoch(std::int32_t epoch) { epoch_ = epoch; }
  // Options::check_ranks: of what each exchange of the last step gave, a hash.
  std::span<const std::uint64_t> exchange_hashes() const { return exchange_hashes_; }
  // The last step's logits, [n_logits, V] row-major. Not after a tail that samples: it uses them
  // up.
  void read_logits(std::span<float> out);
  // Ordered after what is queued.
  void write_state(const std::string& name, std::size_t begin_bytes,
                   std::span<const std::byte> bytes);
  // The launches of the last step, one a line: kernel, grid, object. For debugging.
  std::string trace() const;

  // For measuring launches one by one: a function of the bundle, and the program's own memory for a
  // plan's values.
  kernel::Bundle& bundle() { return executor_.bundle(); }
  const device::Function* load(const kernel::Variant& variant) { return executor_.load(variant); }
  Addresses addresses_of(const StepPlan& plan);

 private:
  struct Ready;

  void choose_captured(const std::string& asked_mode);
  void load(std::shared_ptr<model::Checkpoint> checkpoint, std::future<KernelTables> tables,
            const Options& options, const ProgressSink& progress);
  void prepare_kernels(bool has_mixed_weights, const Options& options,
                       const ProgressSink& progress);
  std::vector<Step> first_steps() const;
  bool is_captured(const Step& step) const;
  graph::Sizes padded(const Step& step) const;
  void pad_inputs(const graph::Sizes& used, const graph::Sizes& padded);
  void number_exchanges(const Step& step, const Ready& ready);
  std::uint64_t hash_of(const Ready& ready, std::size_t node, const graph::Sizes& sizes);
  void queue_launches(const Step& step, Ready& ready, std::size_t part);
  void queue_results(const Step& step, const Ready& ready);
  device::Address address_of(const StepClass& steps, const graph::Value& value) const;
  Ready& prepare(const StepClass& steps);
  void launch(Ready& ready, std::size_t part, const graph::Sizes& sizes, std::string& first_odd);

  device::Device& device_;
  const model::ModelConfig config_;
  Settings settings_;
  KernelTables tables_;
  std::optional<Planner> planner_;
  Executor executor_;
  Exchange exchange_;
  Weights weights_;
  States states_;
  StepInputs inputs_;
  MaskRows masks_;
  // Inputs, each with what it holds in a row without a sequence.
  std::vector<std::pair<int, std::int32_t>> padding_;
  int query_starts_ = -1, logit_rows_ = -1, epoch_input_ = -1;
  std::int32_t epoch_ = 1;  // of the next step's first exchange
  // Of the steps that are queued, and of those whose results are still read: they take turns.
  struct Queued {
    device::HostBuffer results;
    std::unique_ptr<device::Event> done;
    StepOutput output;
    std::string first_odd;
  };
  std::array<Queued, 2> steps_;
  std::size_t next_step_ = 0, n_queued_ = 0;
  std::optional<Step> held_;  // its tail waits for masks; not among those that are queued
  bool may_capture_ = false;
  bool checks_numbers_ = false, checks_ranks_ = false;
  std::atomic<std::uint64_t> progress_ = 0;
  std::vector<std::uint64_t> exchange_hashes_;
  std::unordered_map<std::size_t, StepPlan> planned_;  // ahead of use, by StepClass::index()
  std::vector<std::unique_ptr<Ready>> ready_;          // by the same
  const Ready* last_ = nullptr;
  std::int64_t last_n_logits_ = 0;
};

}  // namespace nereid::program
