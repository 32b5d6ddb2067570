#include "engine/runner.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <future>
#include <map>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "engine/captured_steps.h"
#include "engine/number_check.h"
#include "engine/plan_catalog.h"
#include "engine/planning.h"
#include "engine/random_weights.h"
#include "engine/step_inputs.h"
#include "engine/weights.h"
#include "kernel/bundle_source.h"

namespace nereid::engine {

namespace {

namespace names = model::names;

// Of the memory that is free once weights and activations have theirs, the part a KV cache may
// take: the rest is for other programs, and on the processor for the page cache.
constexpr double kKvShareOfFree = 0.8;

// More than any kernel or tensor map asks of an address.
constexpr std::size_t kCacheAlignmentBytes = 256;

constexpr std::size_t kResultBytes = 4;  // of a row: an id or a log-probability

struct InputHandles {
  int token_ids, positions, slots, query_starts, context_lens, block_tables, logit_rows, targets;
  int token_slots, temperature, top_k, top_p, min_p, penalty, seed, step, row_slots;
};

template <typename T>
void copy_into(std::span<T> target, std::span<const T> source) {
  NEREID_CHECK(source.size() <= target.size(), "{} elements for {}", source.size(), target.size());
  std::copy(source.begin(), source.end(), target.begin());
}

class PlanRunner final : public Runner {
 public:
  PlanRunner(device::Device& device, const model::ModelConfig& config, const RunnerOptions& options)
      : device_(device),
        config_(config),
        options_(resolve_options(config, options, device.info().target)),
        weights_(device),
        inputs_(device) {
    choose_captured(options.mode);
    std::shared_ptr<model::Checkpoint> checkpoint;
    if (!options_.random_weights)
      checkpoint = std::make_shared<model::Checkpoint>(
          model::Checkpoint::open(options_.model_dir, config_.tie_word_embeddings));
    plan(checkpoint.get());
    load(std::move(checkpoint));
    allocate_arena();
    allocate_states();
    limits_ = {.max_batch_tokens = options_.max_batch_tokens,
               .max_sequences = options_.max_sequences,
               .max_logit_rows = options_.max_logit_rows,
               .block_tokens = kBlockTokens,
               .n_kv_blocks = options_.n_kv_blocks,
               .max_context_tokens = options_.max_context_tokens};
    declare_inputs();
    plans_.resize(kNTails * kNBuckets * kNBuckets * 2);
  }

  const sched::Limits& limits() const override { return limits_; }
  std::int64_t vocab_size() const override { return config_.vocab_size; }
  std::int64_t weight_bytes() const override { return weights_.bytes(); }

  StepResult step(const StepRequest& request) override {
    const auto& batch = *request.batch;
    NEREID_CHECK(batch.n_tokens > 0 && batch.n_tokens <= options_.max_batch_tokens, "{} tokens",
                 batch.n_tokens);
    NEREID_CHECK(batch.n_logit_rows <= options_.max_logit_rows, "{} rows", batch.n_logit_rows);
    const bool is_captured = captured_ && is_decoding(request);
    graph::SymbolValues sizes{1, batch.n_tokens, batch.n_sequences, batch.n_logit_rows,
                              batch.max_q_len};
    if (is_captured) {
      const auto n_rows = captured_->padded_rows(batch.n_sequences);
      sizes = {1, n_rows, n_rows, n_rows, 1};
    }
    const PlanKey key{tail_of(request), PlanCatalog::bucket_of(sizes[1]),
                      PlanCatalog::bucket_of(sizes[3]), batch.max_q_len == 1};
    auto& plan = plan_of(key);
    fill_inputs(request);
    if (is_captured) pad_inputs(batch.n_sequences, sizes[1]);
    inputs_.send(static_cast<std::size_t>(sizes[2] * batch.block_table_stride) *
                 sizeof(std::int32_t));
    first_odd_.clear();
    if (options_.check_numbers)
      run_checked(catalog_->form_of(key), plan, sizes);
    else if (is_captured)
      captured_->run(key.tail, sizes[1], plan);
    else
      plan.run(device_, sizes);
    if (options_.print_launches) {
      fmt::print(stderr, "{}", plan.trace());
      options_.print_launches = false;
    }
    last_form_ = catalog_->form_of(key);
    last_n_rows_ = batch.n_logit_rows;
    const auto n_rows = static_cast<std::size_t>(batch.n_logit_rows);
    static_assert(sizeof(std::int32_t) == kResultBytes && sizeof(float) == kResultBytes);
    const auto result = address_of(last_form_, catalog_->form(last_form_).outputs[0]);
    device_.queue_download(results_.bytes().first(n_rows * kResultBytes), result);
    const auto queued = std::chrono::steady_clock::now();
    device_.synchronize();
    const auto* data = results_.bytes().data();
    if (key.tail == model::Tail::logprob)
      return {{}, {reinterpret_cast<const float*>(data), n_rows}, queued, first_odd_};
    return {{reinterpret_cast<const std::int32_t*>(data), n_rows}, {}, queued, first_odd_};
  }

  void read_logits(std::span<float> out) override {
    const auto& graph = catalog_->form(last_form_);
    NEREID_CHECK(graph.outputs.size() > 1, "the last step's logits were used up by sampling");
    NEREID_CHECK(out.size() == static_cast<std::size_t>(last_n_rows_ * config_.vocab_size),
                 "{} logits", out.size());
    device_.download(std::as_writable_bytes(out), address_of(last_form_, graph.outputs[1]));
  }

  void clear_slot(std::int32_t slot) override {
    NEREID_CHECK(slot >= 0 && slot < options_.max_sequences, "slot {}", slot);
    const auto row_bytes = static_cast<std::size_t>(config_.vocab_size);
    device_.fill_zero(states_.at(names::kSeen) + static_cast<std::size_t>(slot) * row_bytes,
                      row_bytes);
  }

 private:
  graph::KernelTables tables() const { return {specs_, tuning_}; }

  // Graphs do not depend on the number of KV blocks but for the cache's declared shape, which no
  // kernel reads.
  void plan(const model::Checkpoint* checkpoint) {
    const auto dtype_of = [this, checkpoint](const std::string& name) {
      return checkpoint == nullptr ? config_.dtype : checkpoint->get(name).dtype;
    };
    const auto& target = device_.info().target;
    options_.n_kv_blocks = std::max<std::int64_t>(options_.n_kv_blocks, 0);
    catalog_.emplace(config_, target, options_, tables(), dtype_of);
  }

  // Everything that kernels need is made ready while weights are copied: neither needs the other.
  void load(std::shared_ptr<model::Checkpoint> checkpoint) {
    const auto& graph = catalog_->graph(model::Tail::greedy);
    if (checkpoint == nullptr) {
      prepare_kernels(false);
      RandomWeights random(device_, *bundle_, tables());
      weights_.randomise(graph, config_, std::ref(random));
      device_.synchronize();
      return;
    }
    auto kernels = std::async(std::launch::async,
                              [this, mixed = has_mixed_weights(graph)] { prepare_kernels(mixed); });
    weights_.load(graph, config_, std::move(checkpoint));
    kernels.get();
  }

  bool has_mixed_weights(const graph::Graph& graph) const {
    return std::ranges::any_of(graph.values, [&](const graph::Value& value) {
      return value.kind == graph::ValueKind::weight && value.name != names::kInvFreq &&
             value.dtype != config_.dtype;
    });
  }

  // Reads no weight and asks nothing of the device.
  void prepare_kernels(bool has_mixed_weights) {
    specs_ = kernel::SpecTable::builtin();
    tuning_ = kernel::TuningTable::builtin(specs_);
    const auto& info = device_.info();
    const auto plan = [&] {
      return has_mixed_weights ? catalog_->requests()
                               : requests_for(config_, info.target, options_, tables());
    };
    kernel::BundleOptions bundle_options;
    bundle_options.model_dir = options_.model_dir;
    bundle_options.bundle_dir = options_.bundle_dir;
    bundle_options.model_name = options_.model_dir.string();
    bundle_.emplace(kernel::find_planned_bundle(specs_, info.target, info.isa,
                                                has_mixed_weights ? "" : plan_id(config_, options_),
                                                plan, bundle_options));
    for (const auto& key : first_keys()) memory_plan(catalog_->form_of(key));
  }

  // Of the largest steps, which decide how much memory activations take, and of those that most
  // runs begin with.
  static std::array<PlanKey, 4> first_keys() {
    constexpr auto kMost = kNBuckets - 1;
    return {{{model::Tail::greedy, kMost, kMost, false},
             {model::Tail::greedy, kMost, kMost, true},
             {model::Tail::greedy, kMost, 0, false},
             {model::Tail::greedy, 0, 0, true}}};
  }

  void allocate_arena() {
    std::size_t size_bytes = 0;
    for (const auto& key : first_keys())
      size_bytes = std::max(size_bytes, memory_plan(catalog_->form_of(key)).arena_bytes);
    arenas_.push_back(device_.allocate(size_bytes, "activations"));
    results_ = device_.allocate_host(
        static_cast<std::size_t>(options_.max_logit_rows) * kResultBytes, "ids");
  }

  // Of a form's graph; made, as the graph is, when a plan first needs it.
  const graph::MemoryPlan& memory_plan(std::size_t form) {
    auto& plan = memory_plans_[form];
    if (!plan) plan = graph::plan_memory(catalog_->form(form), catalog_->largest_of_form(form));
    return *plan;
  }

  // Activations live for a step: all forms use the same bytes, but one that needs more than the
  // others has its own.
  device::Address arena_of(std::size_t form) {
    const auto size_bytes = memory_plan(form).arena_bytes;
    for (const auto& arena : arenas_)
      if (arena.size_bytes() >= size_bytes) return arena.address();
    arenas_.push_back(device_.allocate(size_bytes, "activations"));
    return arenas_.back().address();
  }

  // Chooses the number of KV blocks, and makes the caches and the seen-token table.
  void allocate_states() {
    const auto states = catalog_->values(graph::ValueKind::state);
    std::size_t block_bytes = 0;
    for (const auto& value : states)
      if (is_cache(value)) block_bytes += cache_bytes(value, 1);
    const auto blocks_of_one = (options_.max_context_tokens + kBlockTokens - 1) / kBlockTokens;
    const auto affordable =
        static_cast<std::int64_t>(static_cast<double>(device_.free_bytes()) * kKvShareOfFree /
                                  static_cast<double>(block_bytes));
    const auto wanted = options_.n_kv_blocks > 0 ? options_.n_kv_blocks : blocks_of_one;
    if (wanted > affordable)
      throw Error(
          "a KV cache of {} blocks ({} tokens, {:.2f} GiB) does not fit the memory of {}: {:.2f} "
          "GiB "
          "are free for it; choose a smaller --context or --kv-blocks",
          wanted, wanted * kBlockTokens, gib(block_bytes, wanted), device_.info().name,
          gib(block_bytes, affordable));
    if (options_.n_kv_blocks == 0)
      options_.n_kv_blocks = std::min(affordable, blocks_of_one * options_.max_sequences);
    // One piece of memory for the caches of all layers: asking for many takes milliseconds.
    std::size_t pool_bytes = 0;
    for (const auto& value : states) {
      if (is_cache(value)) {
        states_[value.name] = pool_bytes;
        pool_bytes += cache_bytes(value, options_.n_kv_blocks);
        pool_bytes = (pool_bytes + kCacheAlignmentBytes - 1) & ~(kCacheAlignmentBytes - 1);
        continue;
      }
      const auto size_bytes = graph::value_bytes(value, catalog_->largest());
      state_buffers_.push_back(device_.allocate(size_bytes, value.name));
      states_[value.name] = state_buffers_.back().address();
      device_.fill_zero(states_[value.name], size_bytes);
    }
    // Not filled: caches are read only where they were written.
    state_buffers_.push_back(device_.allocate(pool_bytes, "KV cache"));
    for (const auto& value : states)
      if (is_cache(value)) states_[value.name] += state_buffers_.back().address();
  }

  static bool is_cache(const graph::Value& value) {
    return value.name.starts_with(names::kCachePrefix);
  }

  static double gib(std::size_t block_bytes, std::int64_t n_blocks) {
    return static_cast<double>(block_bytes) * static_cast<double>(n_blocks) / (1 << 30);
  }

  // [n_blocks, G, block tokens, Dh]; the graph's own first dimension says nothing.
  static std::size_t cache_bytes(const graph::Value& value, std::int64_t n_blocks) {
    auto bytes = static_cast<std::size_t>(n_blocks) * dtype_size_bytes(value.dtype);
    for (std::size_t i = 1; i < value.shape.size(); ++i)
      bytes *= static_cast<std::size_t>(value.shape[i].offset);
    return bytes;
  }

  void declare_inputs() {
    for (const auto& value : catalog_->values(graph::ValueKind::input))
      inputs_.declare(value, catalog_->largest());
    inputs_.seal(names::kBlockTables);
    const auto handle = [this](const char* name) { return inputs_.handle(name); };
    handles_ = {
        handle(names::kTokenIds),    handle(names::kPositions),   handle(names::kSlots),
        handle(names::kQueryStarts), handle(names::kContextLens), handle(names::kBlockTables),
        handle(names::kLogitRows),   handle(names::kTargets),     handle(names::kTokenSlots),
        handle(names::kTemperature), handle(names::kTopK),        handle(names::kTopP),
        handle(names::kMinP),        handle(names::kPenalty),     handle(names::kSeed),
        handle(names::kStep),        handle(names::kRowSlots)};
  }

  // One token and one id for each sequence.
  static bool is_decoding(const StepRequest& request) {
    const auto& batch = *request.batch;
    return batch.max_q_len == 1 && batch.n_logit_rows == batch.n_sequences &&
           request.target_ids.empty();
  }

  void choose_captured(const std::string& asked_mode) {
    if (options_.mode != "graph") return;
    if (device_.can_capture()) {
      // A replayed step shows nothing between its launches.
      if (!options_.check_numbers) captured_.emplace(device_, options_.max_sequences);
      return;
    }
    if (asked_mode == "graph")
      throw Error("mode \"graph\": {} cannot capture steps; use --mode compiled",
                  device_.info().name);
    options_.mode = "compiled";
  }

  void run_checked(std::size_t form, graph::Plan& plan, const graph::SymbolValues& sizes) {
    const auto& graph = catalog_->form(form);
    const NumberCheck check(device_, graph, sizes,
                            [&](graph::ValueId id) { return address_of(form, id); });
    plan.run_stepwise(device_, sizes, [&](std::size_t node) {
      if (first_odd_.empty()) first_odd_ = check.odd_results(node);
    });
  }

  static model::Tail tail_of(const StepRequest& request) {
    if (!request.target_ids.empty()) return model::Tail::logprob;
    if (!request.token_slots.empty()) return model::Tail::sample_penalty;
    const bool is_greedy =
        std::all_of(request.sampling.begin(), request.sampling.end(),
                    [](const SamplingRow& row) { return row.temperature <= 0.0F; });
    return is_greedy ? model::Tail::greedy : model::Tail::sample;
  }

  void fill_inputs(const StepRequest& request) {
    const auto& batch = *request.batch;
    const auto ids = [&](int handle, std::span<const std::int32_t> source, std::int64_t n) {
      copy_into(inputs_.elements<std::int32_t>(handle), source.first(static_cast<std::size_t>(n)));
    };
    ids(handles_.token_ids, batch.token_ids, batch.n_tokens);
    ids(handles_.positions, batch.positions, batch.n_tokens);
    ids(handles_.slots, batch.slot_mapping, batch.n_tokens);
    ids(handles_.query_starts, batch.cu_seqlens, batch.n_sequences + 1);
    ids(handles_.context_lens, batch.context_lens, batch.n_sequences);
    NEREID_CHECK(
        batch.block_table_stride == (options_.max_context_tokens + kBlockTokens - 1) / kBlockTokens,
        "block tables of {} columns", batch.block_table_stride);
    ids(handles_.block_tables, batch.block_tables,
        std::int64_t{batch.n_sequences} * batch.block_table_stride);
    ids(handles_.logit_rows, batch.logit_rows, batch.n_logit_rows);
    if (!request.target_ids.empty()) ids(handles_.targets, request.target_ids, batch.n_logit_rows);
    if (!request.token_slots.empty())
      ids(handles_.token_slots, request.token_slots, batch.n_tokens);
    fill_sampling(request.sampling);
  }

  // Rows without a sequence: nothing is attended to, written, or marked as seen; the id is that of
  // nobody.
  void pad_inputs(std::int64_t n_sequences, std::int64_t n_rows) {
    const auto n_tokens = static_cast<std::int32_t>(n_sequences);
    for (auto i = static_cast<std::size_t>(n_sequences); i < static_cast<std::size_t>(n_rows);
         ++i) {
      inputs_.elements<std::int32_t>(handles_.token_ids)[i] = 0;
      inputs_.elements<std::int32_t>(handles_.positions)[i] = 0;
      inputs_.elements<std::int32_t>(handles_.slots)[i] = -1;
      inputs_.elements<std::int32_t>(handles_.query_starts)[i + 1] = n_tokens;
      inputs_.elements<std::int32_t>(handles_.context_lens)[i] = 0;
      inputs_.elements<std::int32_t>(handles_.logit_rows)[i] = static_cast<std::int32_t>(i);
      inputs_.elements<std::int32_t>(handles_.token_slots)[i] = -1;
      fill_sampling_row(i, SamplingRow{});
    }
  }

  void fill_sampling(std::span<const SamplingRow> rows) {
    for (std::size_t i = 0; i < rows.size(); ++i) fill_sampling_row(i, rows[i]);
  }

  void fill_sampling_row(std::size_t i, const SamplingRow& row) {
    inputs_.elements<float>(handles_.temperature)[i] = row.temperature;
    inputs_.elements<std::int32_t>(handles_.top_k)[i] = row.top_k;
    inputs_.elements<float>(handles_.top_p)[i] = row.top_p;
    inputs_.elements<float>(handles_.min_p)[i] = row.min_p;
    inputs_.elements<float>(handles_.penalty)[i] = row.repetition_penalty;
    inputs_.elements<std::uint64_t>(handles_.seed)[i] = row.seed;
    inputs_.elements<std::int32_t>(handles_.step)[i] = row.n_generated;
    inputs_.elements<std::int32_t>(handles_.row_slots)[i] = row.slot;
  }

  device::Address address_of(std::size_t form, graph::ValueId id) {
    const auto& graph = catalog_->form(form);
    const auto& value = graph.value(id);
    switch (value.kind) {
      case graph::ValueKind::input:
        return inputs_.address(value.name);
      case graph::ValueKind::weight:
        return weights_.address(value.name);
      case graph::ValueKind::state:
        return states_.at(value.name);
      case graph::ValueKind::intermediate:
        break;
    }
    const auto offset = memory_plan(form).offsets[static_cast<std::size_t>(id)];
    // An operation in place on a state or an input: its bytes are that one's.
    if (offset == graph::MemoryPlan::kNotInArena)
      return address_of(form, graph::storage_of(graph, id));
    return arena_of(form) + offset;
  }

  const device::Function* load(const kernel::Variant& variant) {
    const device::Function*& function = functions_[&variant];
    if (function == nullptr) function = device_.load(bundle_->image(variant));
    return function;
  }

  // Made when a step first needs it; every later step finds it by index.
  graph::Plan& plan_of(const PlanKey& key) {
    auto& slot =
        plans_[((static_cast<std::size_t>(key.tail) * kNBuckets + key.token_bucket) * kNBuckets +
                key.logit_bucket) *
                   2 +
               (key.is_decode ? 1 : 0)];
    if (!slot)
      slot.emplace(
          catalog_->launches(key), *bundle_,
          [this](const kernel::Variant& variant) { return load(variant); },
          [this, form = catalog_->form_of(key)](graph::ValueId id) {
            return address_of(form, id);
          });
    return *slot;
  }

  device::Device& device_;
  const model::ModelConfig config_;
  RunnerOptions options_;
  sched::Limits limits_;
  kernel::SpecTable specs_;
  kernel::TuningTable tuning_;
  std::optional<PlanCatalog> catalog_;
  std::optional<kernel::Bundle> bundle_;
  std::unordered_map<const kernel::Variant*, const device::Function*> functions_;
  Weights weights_;
  std::vector<device::Buffer> arenas_;
  std::vector<device::Buffer> state_buffers_;
  std::map<std::string, device::Address> states_;  // by name
  StepInputs inputs_;
  InputHandles handles_{};
  std::array<std::optional<graph::MemoryPlan>, PlanCatalog::kNForms> memory_plans_;
  std::vector<std::optional<graph::Plan>> plans_;
  std::optional<CapturedSteps> captured_;  // graph mode
  device::HostBuffer results_;             // of the last step: ids or log-probabilities
  std::string first_odd_;                  // of the last step, where numbers are checked
  std::size_t last_form_ = 0;
  std::int64_t last_n_rows_ = 0;
};

}  // namespace

std::string not_finite_text(std::string_view first_odd) {
  constexpr std::string_view kWhat = "the model's logits are not finite (NaN or infinite)";
  if (first_odd.empty())
    return fmt::format("{}; --check-numbers says where they first appear", kWhat);
  return fmt::format("{}; first: {}", kWhat, first_odd);
}

std::unique_ptr<Runner> Runner::create(device::Device& device, const model::ModelConfig& config,
                                       const RunnerOptions& options) {
  return std::make_unique<PlanRunner>(device, config, options);
}

}  // namespace nereid::engine
