#include "program/program.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "base/error.h"
#include "kernel/bundle_source.h"
#include "model/stored_name.h"
#include "nereid/request.h"
#include "program/number_check.h"

namespace nereid::program {

namespace {

namespace names = model::names;
using model::Tail;

// Of a row: an id, its log-probability, and as many pairs of these as may be asked for.
constexpr std::size_t kResultBytes = (1 + kMaxLogprobs) * (sizeof(std::int32_t) + sizeof(float));

// Whether some have another type than a plan without the checkpoint takes them to have.
bool has_mixed_weights(const graph::Graph& graph, DType dtype,
                       const std::optional<model::Quantization>& quantization) {
  return std::ranges::any_of(graph.values, [&](const graph::Value& value) {
    if (value.kind != graph::ValueKind::weight || names::is_computed(value.name)) return false;
    switch (model::stored_name(value.name).part) {
      case model::StoredPart::value:
        return !is_quantised(value.dtype) && value.dtype != dtype;
      case model::StoredPart::scale:
        return value.dtype != DType::fp32 && value.dtype != quantization->scale;
      default:
        return false;
    }
  });
}

// Tokens of a prompt that a first step may have: kernels of fewer are the same, but for very few.
constexpr std::int64_t kShortPrompt = 64;

// All that decides which kernels a model asks for, besides target and program; empty where the
// config was not read from a file.
std::string plan_id(const model::ModelConfig& config, const Settings& settings) {
  if (config.source_sha256.empty()) return {};
  const auto& limits = settings.limits;
  return fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {}", config.source_sha256,
                     settings.mode, settings.shard.n_ranks, settings.multiplies_bytes,
                     settings.has_fp8_activations,
                     settings.quantization ? settings.quantization->name : "",
                     dtype_name(settings.kv_cache), settings.attention, settings.is_tuned,
                     settings.is_batch_invariant, fmt::join(settings.skip_passes, ","),
                     limits.max_batch_tokens, limits.max_sequences, limits.max_context_tokens);
}

graph::Sizes decode_sizes(std::int64_t n_rows) {
  return {.n_tokens = n_rows, .n_sequences = n_rows, .n_decodes = n_rows, .n_logits = n_rows};
}

InputLayout layout_of(const StepClass& steps) {
  return steps.is_decode ? InputLayout::decode : InputLayout::any;
}

// Of a class's launches: all, or those before the first that reads masks, and the rest.
constexpr std::size_t kWhole = 0, kForward = 1, kMasked = 2, kNParts = 3;

bool reads_masks(const StepPlan& plan, const PlannedLaunch& launch) {
  return std::ranges::any_of(launch.pointers, [&](const auto& pointer) {
    return pointer.second != graph::kNoValue &&
           plan.graph.value(pointer.second).name == names::kAllowed;
  });
}

}  // namespace

// A class of steps, bound to the program's memory.
struct Program::Ready {
  std::vector<BoundLaunch> launches;
  struct Part {
    std::size_t begin = 0, end = 0;  // of the launches
    std::unique_ptr<device::CapturedWork> captured;
  };
  std::array<Part, kNParts> parts;
  struct Output {
    device::Address address;
    std::size_t row_bytes;
  };
  std::vector<Output> outputs;
  device::Address logits = 0;  // 0: used up
  ExchangeCount exchanges;
  // For checking numbers or ranks: what the launches compute. Else empty.
  std::vector<std::size_t> nodes;  // of the launches
  graph::Graph graph;
  std::vector<device::Address> values;
  // Where steps are captured.
  bool was_run = false;
};

Program::Program(device::Device& device, const model::ModelConfig& config, const Options& options,
                 std::optional<kernel::Bundle> bundle, const ProgressSink& progress,
                 const Rank& rank)
    : device_(device),
      config_(config),
      settings_(resolve(config, options, device.info().target, rank.shard)),
      executor_(device),
      exchange_(device),
      weights_(device, rank.shard),
      inputs_(device),
      masks_(device),
      checks_numbers_(options.check_numbers),
      checks_ranks_(options.check_ranks && !rank.shard.is_whole()),
      ready_(StepClass::kNumber) {
  if (bundle) executor_.use(*std::move(bundle));
  // Read beside the files of the model.
  auto tables =
      std::async(std::launch::async, [is_tuned = settings_.is_tuned, target = settings_.target] {
        return KernelTables::builtin(is_tuned, target);
      });
  choose_captured(options.mode);
  std::shared_ptr<model::Checkpoint> checkpoint;
  if (!options.random_weights)
    checkpoint = std::make_shared<model::Checkpoint>(
        model::Checkpoint::open(options.model_dir, config_.tie_word_embeddings));
  planner_.emplace(config_, settings_, tables_, checkpoint.get());
  load(std::move(checkpoint), std::move(tables), options, progress);
  const auto largest = planner_->largest_class().index();
  executor_.arena(planned_.at(largest).memory.arena_bytes);
  planned_.erase(largest);
  for (auto& step : steps_) {
    step.results = device_.allocate_host(
        static_cast<std::size_t>(settings_.limits.max_logit_rows) * kResultBytes, "ids");
    step.done = device_.make_event();
  }
  const auto states = planner_->values(graph::ValueKind::state);
  const auto agree = [&](std::int64_t n_blocks) {
    if (rank.meeting == nullptr) return n_blocks;
    // Ranks that share one machine's memory share its room.
    if (device_.reads_host_memory()) n_blocks /= rank.shard.n_ranks;
    return std::ranges::min(rank.meeting->all(rank.shard.rank, n_blocks));
  };
  states_.allocate(device_, states, planner_->largest(), agree, settings_.limits);
  exchange_.open(states, rank);
  masks_.place(states_.address(names::kAllowed), settings_.limits.max_sequences,
               model::n_mask_words(config_.vocab_size));
  const auto largest_decode = decode_sizes(settings_.limits.max_sequences);
  for (const auto& value : planner_->values(graph::ValueKind::input))
    inputs_.declare(value, largest_decode, planner_->largest());
  inputs_.seal(names::kBlockTables);
  epoch_input_ = inputs_.handle(names::kEpoch);
  query_starts_ = inputs_.handle(names::kQueryStarts);
  logit_rows_ = inputs_.handle(names::kLogitRows);
  for (const auto& [name, value] : {std::pair(names::kTokenIds, 0),
                                    {names::kPositions, 0},
                                    {names::kSlots, -1},
                                    {names::kContextLens, 0},
                                    {names::kTokenSlots, -1},
                                    {names::kRowSlots, -1},
                                    {names::kTargets, -1},
                                    {names::kNTop, -1}})
    padding_.emplace_back(inputs_.handle(name), value);
}

Program::~Program() = default;

MemoryUse Program::memory_use() const {
  const auto peak_bytes = static_cast<std::int64_t>(device_.memory_count().peak_bytes);
  return {.weight_bytes = weights_.memory_bytes(),
          .cache_bytes = static_cast<std::int64_t>(states_.pool_bytes()),
          .activation_bytes = static_cast<std::int64_t>(executor_.arena_bytes()),
          .peak_bytes = peak_bytes + weights_.mapped_bytes()};
}

void Program::choose_captured(const std::string& asked_mode) {
  if (settings_.mode != "graph") return;
  if (device_.can_capture()) {
    // A replayed step shows nothing between its launches.
    may_capture_ = !checks_numbers_ && !checks_ranks_;
    return;
  }
  if (asked_mode == "graph")
    throw Error("mode \"graph\": {} cannot capture steps; use --mode compiled",
                device_.info().name);
  settings_.mode = "compiled";
}

// Everything that kernels need is made ready while weights are copied: neither needs the other.
void Program::load(std::shared_ptr<model::Checkpoint> checkpoint, std::future<KernelTables> tables,
                   const Options& options, const ProgressSink& progress) {
  const auto& graph = planner_->graph(Tail::greedy);
  if (checkpoint == nullptr) {
    tables_ = tables.get();
    prepare_kernels(false, options, progress);
    RandomFill fill(device_, executor_.bundle(), tables_);
    WeightKernels kernels(device_, executor_.bundle(), tables_);
    weights_.randomise(
        graph, config_, settings_.quantization, [&]() -> WeightKernels& { return kernels; }, fill);
    device_.synchronize();
    return;
  }
  const bool is_mixed = has_mixed_weights(graph, config_.dtype, settings_.quantization);
  const std::shared_future<void> kernels = std::async(std::launch::async, [&] {
    tables_ = tables.get();
    prepare_kernels(is_mixed, options, progress);
  });
  std::optional<WeightKernels> weight_kernels;
  weights_.load(
      graph, config_, settings_.quantization, std::move(checkpoint),
      [&]() -> WeightKernels& {
        kernels.get();
        if (!weight_kernels) weight_kernels.emplace(device_, executor_.bundle(), tables_);
        return *weight_kernels;
      },
      progress);
  kernels.get();
}

// Reads no weight, and asks nothing of a device that copies weights to memory of its own.
void Program::prepare_kernels(bool has_mixed_weights, const Options& options,
                              const ProgressSink& progress) {
  const auto largest = planner_->largest_class();
  planned_.emplace(largest.index(), planner_->plan(largest));
  // A bundle that was brought may hold just what is measured.
  if (executor_.has_bundle()) return;
  const auto requests = [&] {
    return has_mixed_weights ? planner_->requests() : requests_for(config_, settings_, tables_);
  };
  executor_.use(kernel::find_planned_bundle(
      tables_.specs, settings_.target, device_.info().isa,
      has_mixed_weights ? "" : plan_id(config_, settings_), requests,
      {.model_dir = options.model_dir,
       .bundle_dir = options.bundle_dir,
       .command = fmt::format("nereid compile {}", options.model_dir.string()),
       .progress = progress}));
  for (const auto& step : first_steps()) {
    const auto steps = StepClass::of(step.tail, step.sizes);
    const auto& plan = planned_.emplace(steps.index(), planner_->plan(steps)).first->second;
    if (device_.reads_host_memory())
      for (const auto& launch : plan.launches) executor_.load(executor_.variant_of(launch));
  }
}

Addresses Program::addresses_of(const StepPlan& plan) {
  return executor_.addresses_of(
      plan, [&](const graph::Value& value) { return address_of(plan.steps, value); });
}

device::Address Program::address_of(const StepClass& steps, const graph::Value& value) const {
  switch (value.kind) {
    case graph::ValueKind::input:
      return inputs_.address(value.name, layout_of(steps));
    case graph::ValueKind::weight:
      return weights_.address(value.name);
    case graph::ValueKind::state:
      return value.name.starts_with(names::kExchangePrefix) ? exchange_.address(value.name)
                                                            : states_.address(value.name);
    case graph::ValueKind::intermediate:
      break;
  }
  NEREID_UNREACHABLE("%{} lies nowhere", value.name);
}

Program::Ready& Program::prepare(const StepClass& steps) {
  auto& ready = ready_[steps.index()];
  if (ready) return *ready;
  const auto planned = planned_.extract(steps.index());
  auto plan = planned ? std::move(planned.mapped()) : planner_->plan(steps);
  progress_.fetch_add(1, std::memory_order_relaxed);
  auto addresses = addresses_of(plan);
  auto made = std::make_unique<Ready>();
  made->launches = executor_.bind(plan, addresses);
  if (checks_numbers_ || checks_ranks_)
    for (const auto& launch : plan.launches) made->nodes.push_back(launch.node);
  made->exchanges = ExchangeCount::of(plan.graph);
  const auto first_masked =
      std::ranges::find_if(plan.launches, [&](const auto& it) { return reads_masks(plan, it); });
  const auto n_forward = static_cast<std::size_t>(first_masked - plan.launches.begin());
  made->parts[kWhole].end = made->parts[kMasked].end = plan.launches.size();
  made->parts[kForward].end = made->parts[kMasked].begin = n_forward;
  for (const auto id : plan.graph.outputs) {
    const auto& value = plan.graph.value(id);
    const auto address = addresses.values[static_cast<std::size_t>(id)];
    if (value.name == names::kLogits) {
      made->logits = address;
      continue;
    }
    std::size_t row_bytes = dtype_size_bytes(value.dtype);
    for (std::size_t i = 1; i < value.shape.size(); ++i)
      row_bytes *= static_cast<std::size_t>(value.shape[i].offset);
    made->outputs.push_back({address, row_bytes});
  }
  if (checks_numbers_ || checks_ranks_) {
    made->graph = std::move(plan.graph);
    made->values = std::move(addresses.values);
  }
  ready = std::move(made);
  return *ready;
}

// One token and one id for each sequence. More rows than the largest bucket keep a device busy for
// far longer than launching takes.
bool Program::is_captured(const Step& step) const {
  const auto& sizes = step.sizes;
  return may_capture_ && step.tail != Tail::logprob && sizes.n_decodes == sizes.n_sequences &&
         sizes.n_logits == sizes.n_sequences && sizes.n_sequences <= kBucketRows.back();
}

// Between two buckets rows are padding, which kernels skip: a capture serves all numbers of rows
// of its class.
graph::Sizes Program::padded(const Step& step) const {
  if (!is_captured(step)) return step.sizes;
  auto sizes = decode_sizes(
      std::min(kBucketRows[bucket_of(step.sizes.n_sequences)], settings_.limits.max_sequences));
  sizes.is_uneven = step.sizes.is_uneven;
  return sizes;
}

// Rows without a sequence: nothing is attended to, written, or counted; the id is that of nobody.
void Program::pad_inputs(const graph::Sizes& used, const graph::Sizes& padded) {
  const auto begin = static_cast<std::size_t>(used.n_sequences);
  const auto n = static_cast<std::size_t>(padded.n_sequences) - begin;
  for (const auto& [handle, value] : padding_)
    std::ranges::fill(inputs_.elements<std::int32_t>(handle).subspan(begin, n), value);
  const auto query_starts = inputs_.elements<std::int32_t>(query_starts_);
  std::ranges::fill(query_starts.subspan(begin + 1, n), static_cast<std::int32_t>(begin));
  const auto logit_rows = inputs_.elements<std::int32_t>(logit_rows_);
  for (std::size_t i = begin; i < begin + n; ++i) logit_rows[i] = static_cast<std::int32_t>(i);
}

void Program::launch(Ready& ready, std::size_t part, const graph::Sizes& sizes,
                     std::string& first_odd) {
  const auto begin = ready.parts[part].begin, end = ready.parts[part].end;
  if (begin == 0) first_odd.clear();
  if (!checks_numbers_ && !checks_ranks_) {
    for (auto i = begin; i < end; ++i) {
      ready.launches[i].run(device_, sizes);
      progress_.fetch_add(1, std::memory_order_relaxed);
    }
    return;
  }
  if (begin == 0) exchange_hashes_.clear();
  const NumberCheck check(device_, ready.graph, sizes, ready.values);
  for (auto i = begin; i < end; ++i) {
    if (!ready.launches[i].run(device_, sizes)) continue;
    progress_.fetch_add(1, std::memory_order_relaxed);
    device_.synchronize();
    if (checks_numbers_ && first_odd.empty()) first_odd = check.odd_results(ready.nodes[i]);
    const auto& node = ready.graph.nodes[ready.nodes[i]];
    if (checks_ranks_ && node.row().op_class == graph::OpClass::exchange)
      exchange_hashes_.push_back(hash_of(ready, ready.nodes[i], sizes));
  }
}

// Of the bytes that an exchange gave.
std::uint64_t Program::hash_of(const Ready& ready, std::size_t node, const graph::Sizes& sizes) {
  const auto id = ready.graph.nodes[node].outputs[0];
  std::vector<std::byte> bytes(graph::value_bytes(ready.graph.value(id), sizes));
  device_.download(bytes, ready.values[static_cast<std::size_t>(id)]);
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// The inputs are this rank's own by now.
void Program::number_exchanges(const Step& step, const Ready& ready) {
  if (epoch_input_ < 0) return;
  inputs_.elements<std::int32_t>(epoch_input_)[0] = epoch_;
  const auto n =
      ready.exchanges.of_tokens + (step.sizes.n_logits > 0 ? ready.exchanges.of_logits : 0);
  // Around the end of 32 bits, as kernels count.
  epoch_ =
      static_cast<std::int32_t>(static_cast<std::uint32_t>(epoch_) + static_cast<std::uint32_t>(n));
}

void Program::queue_launches(const Step& step, Ready& ready, std::size_t part) {
  const auto sizes = padded(step);
  auto& first_odd = steps_[next_step_].first_odd;
  // The first one goes the plain way: drivers load a kernel at its first launch, which they cannot
  // do while they capture.
  if (!is_captured(step) || !ready.was_run) {
    launch(ready, part, sizes, first_odd);
    ready.was_run |= part != kForward;
    return;
  }
  auto& captured = ready.parts[part].captured;
  if (!captured) captured = device_.capture([&] { launch(ready, part, sizes, first_odd); });
  device_.replay(*captured);
  progress_.fetch_add(1, std::memory_order_relaxed);
}

std::vector<Step> Program::first_steps() const {
  const auto n_prompt = std::min(kShortPrompt, settings_.limits.max_batch_tokens);
  std::vector<Step> steps{{Tail::greedy, {.n_tokens = n_prompt, .max_query_tokens = n_prompt}}};
  const auto max_rows = std::min(settings_.limits.max_sequences, kBucketRows.back());
  for (const auto tail : {Tail::greedy, Tail::sample}) {
    // Where nothing is captured, sampling is one kernel more, loaded when it is first used.
    if (tail == Tail::sample && !may_capture_) break;
    for (std::int64_t rows = 1;; rows = std::min(2 * rows, max_rows)) {
      steps.push_back({tail, decode_sizes(rows)});
      if (rows == max_rows) break;
    }
  }
  return steps;
}

// Replays are the slower the more captures are alive: by 1.6 % at 16 rows with ten of them in place
// of one, on an H200. So only full steps are captured now, others when they first come.
void Program::warm() {
  for (const auto& step : first_steps()) {
    auto& ready = prepare(StepClass::of(step.tail, step.sizes));
    if (!is_captured(step)) continue;
    begin(step);
    pad_inputs({.n_sequences = 0}, step.sizes);
    number_exchanges(step, ready);
    inputs_.send();
    queue_launches(step, ready, kWhole);
    if (step.sizes.n_sequences == settings_.limits.max_sequences)
      ready.parts[kWhole].captured =
          device_.capture([&] { launch(ready, kWhole, step.sizes, steps_[0].first_odd); });
    // Both sets of inputs are free again.
    device_.synchronize();
  }
  device_.synchronize();
}

StepInputs& Program::begin(const Step& step) {
  NEREID_CHECK(n_queued_ < steps_.size() && !held_, "{} steps are queued", n_queued_);
  inputs_.begin(layout_of(StepClass::of(step.tail, step.sizes)));
  return inputs_;
}

void Program::queue(const Step& step) {
  const auto sizes = padded(step);
  NEREID_CHECK(sizes.n_tokens > 0 && sizes.n_tokens <= limits().max_batch_tokens, "{} tokens",
               sizes.n_tokens);
  NEREID_CHECK(sizes.n_logits <= limits().max_logit_rows, "{} rows", sizes.n_logits);
  auto& ready = prepare(StepClass::of(step.tail, sizes));
  if (sizes != step.sizes) pad_inputs(step.sizes, sizes);
  number_exchanges({step.tail, sizes}, ready);
  inputs_.send();
  if (step.waits_for_masks) {
    NEREID_CHECK(ready.parts[kMasked].begin < ready.parts[kMasked].end, "no launch reads masks");
    queue_launches(step, ready, kForward);
    held_ = step;
    return;
  }
  queue_launches(step, ready, kWhole);
  queue_results(step, ready);
}

void Program::queue_tail(std::span<const std::int32_t> slots) {
  NEREID_CHECK(held_, "no step waits for masks");
  const auto step = *std::exchange(held_, std::nullopt);
  auto& ready = prepare(StepClass::of(step.tail, padded(step)));
  masks_.send(slots);
  queue_launches(step, ready, kMasked);
  queue_results(step, ready);
}

void Program::queue_results(const Step& step, const Ready& ready) {
  auto& queued = steps_[next_step_];
  last_ = &ready;
  last_n_logits_ = step.sizes.n_logits;
  queued.output = {};
  std::size_t offset = 0;
  for (std::size_t i = 0; i < ready.outputs.size(); ++i) {
    const auto& [address, row_bytes] = ready.outputs[i];
    const auto rows = queued.results.bytes().subspan(
        offset, static_cast<std::size_t>(step.sizes.n_logits) * row_bytes);
    offset += rows.size();
    queued.output.values[i] = rows;
    if (!rows.empty()) device_.queue_download(rows, address);
  }
  device_.record(*queued.done);
  next_step_ = 1 - next_step_;
  ++n_queued_;
}

StepOutput Program::wait() {
  NEREID_CHECK(n_queued_ > 0, "no step is queued");
  auto& queued = steps_[(next_step_ + n_queued_) % steps_.size()];
  --n_queued_;
  device_.wait(*queued.done);
  queued.output.first_odd = queued.first_odd;
  return queued.output;
}

void Program::recover() {
  n_queued_ = 0;
  held_.reset();
  device_.synchronize();
  exchange_.allow_waiting();
  executor_.reset_counters();
  inputs_.forget_sent();
  device_.synchronize();
}

void Program::read_logits(std::span<float> out) {
  NEREID_CHECK(last_ != nullptr && last_->logits != 0,
               "the last step's logits were used up by sampling");
  NEREID_CHECK(out.size() == static_cast<std::size_t>(last_n_logits_ * config_.vocab_size),
               "{} logits", out.size());
  device_.download(std::as_writable_bytes(out), last_->logits);
}

void Program::write_state(const std::string& name, std::size_t begin_bytes,
                          std::span<const std::byte> bytes) {
  device_.upload(states_.address(name) + begin_bytes, bytes);
}

std::string Program::trace() const {
  std::string text;
  for (const auto& launch : last_->launches)
    text +=
        fmt::format("{:<18} grid {}x{}x{}  {}\n", launch.variant().request.kernel, launch.grid().x,
                    launch.grid().y, launch.grid().z, launch.variant().object_sha256);
  return text;
}

}  // namespace nereid::program
