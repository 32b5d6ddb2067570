#include "measure/kernel_bench.h"

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "device/registry.h"
#include "engine/plan_catalog.h"
#include "engine/random_weights.h"
#include "engine/session.h"
#include "kernel/bundle_source.h"
#include "measure/bench_memory.h"
#include "measure/model_cost.h"
#include "measure/timing.h"

namespace nereid::measure {

namespace {

// More than any cache between memory and a kernel holds.
constexpr std::size_t kPoolBytes = std::size_t{256} << 20;
// A pool of small weights would otherwise become a plan of very many launches.
constexpr std::size_t kMaxCopies = 256;
constexpr double kTargetMs = 5;
// A launch that takes long finds no weights in a cache from one round over few copies either.
constexpr double kMaxRoundMs = 50;
constexpr std::int64_t kMaxDecodeRows = 16;
constexpr std::int64_t kMaxLogitRows = 64;
constexpr std::int64_t kMinStepTokens = 1024;
// Prefill and decode, as the report and a batch of two meet them, and one long prompt; steps longer
// than the most rows that are asked for are left out.
constexpr StepShape kAttentionSteps[] = {
    {1, 44, 44}, {2, 512, 512}, {1, 2048, 2048}, {1, 1, 44}, {2, 1, 640}};

bool is_product(const graph::PlannedLaunch& launch) {
  const auto has = [&](const char* size) {
    return std::ranges::any_of(launch.call.sizes,
                               [&](const auto& entry) { return entry.first == size; });
  };
  return has("n_out") && has("n_in");
}

std::optional<graph::Dim> size_of(const graph::PlannedLaunch& launch, std::string_view name) {
  for (const auto& [size, dim] : launch.call.sizes)
    if (size == name) return dim;
  return std::nullopt;
}

// "model.layers.0.self_attn.q_proj.weight" -> "self_attn.q_proj"
std::string short_name(std::string name) {
  constexpr std::string_view kLayer = "model.layers.0.";
  if (const auto at = name.find(kLayer); at != std::string::npos) name.erase(0, at + kLayer.size());
  if (const auto at = name.find(".weight"); at != std::string::npos) name.resize(at);
  return name;
}

class KernelBench {
 public:
  explicit KernelBench(const KernelBenchOptions& options)
      : options_(options),
        whole_(model::ModelConfig::load(options.engine.model_dir)),
        config_(engine::PlanCatalog::representative(whole_)),
        device_(device::open_device(
            {.name = options.engine.device, .n_threads = options.engine.n_threads})),
        tuning_(kernel::TuningTable::builtin(specs_)),
        runner_options_(sizes()),
        catalog_(config_, device_->info().target, runner_options_, tables(),
                 [this](const std::string&) { return config_.dtype; }),
        bundle_(find_bundle()) {}

  KernelBenchResult run() {
    KernelBenchResult result;
    result.device = device_->info();
    const auto weight_bytes = static_cast<std::size_t>(streamed_weight_bytes(whole_));
    result.limits =
        measure_limits(*device_, whole_, options_.engine, std::max(kPoolBytes, weight_bytes));
    make_pool();
    for (const auto n_rows : options_.rows) {
      const bool is_decode = n_rows <= kMaxDecodeRows;
      const StepShape step{is_decode ? n_rows : 1, is_decode ? 1 : n_rows, is_decode ? 1 : n_rows};
      measure_step(step, std::min(n_rows, kMaxLogitRows), /*is_attention=*/false, result.rows);
    }
    for (const auto& step : kAttentionSteps)
      if (step.n_context <= runner_options_.max_context_tokens)
        measure_step(step, step.n_sequences, /*is_attention=*/true, result.rows);
    return result;
  }

 private:
  graph::KernelTables tables() const { return {specs_, tuning_}; }

  engine::RunnerOptions sizes() const {
    auto options = engine::runner_options(options_.engine);
    options.max_batch_tokens = std::max(kMinStepTokens, *std::ranges::max_element(options_.rows));
    options.max_sequences = kMaxLogitRows;
    options.max_logit_rows = kMaxLogitRows;
    options.max_context_tokens = std::min(options.max_batch_tokens, config_.max_context_tokens);
    options.n_kv_blocks = 0;
    for (const auto& step : kAttentionSteps) {
      const auto blocks = (step.n_context + engine::kBlockTokens - 1) / engine::kBlockTokens;
      options.n_kv_blocks = std::max(options.n_kv_blocks, step.n_sequences * blocks);
    }
    const auto longest =
        (options.max_batch_tokens + engine::kBlockTokens - 1) / engine::kBlockTokens;
    options.n_kv_blocks = std::max({options.n_kv_blocks, longest, kMaxDecodeRows});
    return engine::resolve_options(config_, options, device_->info().target);
  }

  kernel::Bundle find_bundle() const {
    const auto& target = device_->info().target;
    auto requests = catalog_.requests();
    requests.push_back(engine::RandomWeights::request(config_.dtype, target, tables()));
    return kernel::find_bundle(specs_, target, device_->info().isa, requests,
                               {.model_dir = options_.engine.model_dir,
                                .bundle_dir = options_.engine.bundle_dir,
                                .model_name = options_.engine.model_dir.string()});
  }

  const device::Function* load(const kernel::Variant& variant) {
    const device::Function*& function = functions_[&variant];
    if (function == nullptr) function = device_->load(bundle_.image(variant));
    return function;
  }

  void make_pool() {
    std::size_t bytes = kPoolBytes;
    for (const bool is_decode : {true, false}) {
      const auto bucket = is_decode ? 0 : engine::kNBuckets - 1;
      const auto& graph = catalog_.graph({model::Tail::greedy, bucket, bucket, is_decode});
      bytes = std::max(bytes, 2 * BenchMemory::largest_weight_bytes(graph));
    }
    pool_ = device_->allocate(bytes, "weights and keys that are timed");
    device_->prefer_large_pages(pool_);  // as the engine's weights
    fill(pool_);
  }

  // The launches of one step that are asked for, each timed alone.
  void measure_step(const StepShape& step, std::int64_t n_logits, bool is_attention,
                    std::vector<KernelRow>& rows) {
    if (step.n_context > runner_options_.max_context_tokens) return;
    const engine::PlanKey key{model::Tail::greedy, engine::PlanCatalog::bucket_of(step.n_tokens()),
                              engine::PlanCatalog::bucket_of(n_logits), step.n_query == 1};
    const graph::SymbolValues sizes{1, step.n_tokens(), step.n_sequences, n_logits, step.n_query};
    const auto& graph = catalog_.graph(key);
    BenchMemory memory(*device_, graph, catalog_.largest(), runner_options_.n_kv_blocks, pool_);
    // Where activations are of another type than weights, on the processor, zeros do as well.
    if (engine::activation_dtype(device_->info().target, config_.dtype) == config_.dtype)
      fill(memory.arena());
    memory.set_step(step);
    std::set<std::string> seen;
    for (const auto& launch : catalog_.launches(key)) {
      const auto& node = graph.nodes[launch.node];
      const bool is_attending = graph::op_row(node.op).op_class == graph::OpClass::attention;
      const bool is_wanted =
          is_attention ? is_attending : !is_attending && (is_product(launch) || options_.has_all);
      if (!is_wanted) continue;
      auto row = describe(graph, launch, step, sizes);
      if (!seen.insert(row.kernel + row.choice + std::to_string(row.n_out) + "/" +
                       std::to_string(row.n_in))
               .second)
        continue;
      row.us = time(memory, graph, launch, sizes);
      rows.push_back(std::move(row));
    }
  }

  void fill(const device::Buffer& buffer) {
    const auto n = buffer.size_bytes() / dtype_size_bytes(config_.dtype);
    constexpr double kStd = 0.02;
    random_(buffer.address(), config_.dtype, static_cast<std::int64_t>(n), 1, kStd);
    device_->synchronize();
  }

  double time(const BenchMemory& memory, const graph::Graph& graph,
              const graph::PlannedLaunch& launch, const graph::SymbolValues& sizes) {
    const auto bytes = std::max<std::size_t>(memory.pooled_bytes(graph.nodes[launch.node]), 1);
    const auto n_copies = std::clamp<std::size_t>(pool_.size_bytes() / bytes, 2, kMaxCopies);
    std::vector<graph::Plan> plans;
    std::size_t offset = 0;
    for (std::size_t i = 0; i < n_copies; ++i)
      plans.emplace_back(
          std::vector<graph::PlannedLaunch>{launch}, bundle_,
          [this](const kernel::Variant& variant) { return load(variant); },
          [&](graph::ValueId id) { return memory.address(id, offset); });
    const auto once = time_launches(*device_, [&] { plans[0].run(*device_, sizes); },
                                    {.n_repeats = 1, .target_ms = 0});
    const auto n_in_round = static_cast<std::size_t>(kMaxRoundMs / 1e3 / once[0]);
    if (n_in_round < plans.size())
      plans.erase(
          plans.begin() + std::max<std::ptrdiff_t>(2, static_cast<std::ptrdiff_t>(n_in_round)),
          plans.end());
    const auto samples = time_launches(*device_,
                                       [&] {
                                         for (auto& plan : plans) plan.run(*device_, sizes);
                                       },
                                       {.n_repeats = options_.n_repeats, .target_ms = kTargetMs});
    constexpr double kUsPerSecond = 1e6;
    return median(samples) / static_cast<double>(plans.size()) * kUsPerSecond;
  }

  KernelRow describe(const graph::Graph& graph, const graph::PlannedLaunch& launch,
                     const StepShape& step, const graph::SymbolValues& sizes) const {
    const auto& node = graph.nodes[launch.node];
    const auto& spec = kernel::spec_of(launch.request, specs_);
    const kernel::Expression::Lookup lookup =
        [&](std::string_view name) -> std::optional<std::int64_t> {
      if (const auto dim = size_of(launch, name)) return graph::dim_value(*dim, sizes);
      if (const auto it = launch.request.constexprs.find(std::string(name));
          it != launch.request.constexprs.end())
        return it->second;
      for (const auto& [pointer, id] : launch.call.pointers)
        if (name == "sizeof(" + pointer + ")")
          return id == graph::kNoValue
                     ? 0
                     : static_cast<std::int64_t>(dtype_size_bytes(graph.value(id).dtype));
      return std::nullopt;
    };
    KernelRow row;
    row.kernel = launch.call.kernel;
    row.grid = fmt::format("{}x{}x{}", spec.grid[0].evaluate(lookup), spec.grid[1].evaluate(lookup),
                           spec.grid[2].evaluate(lookup));
    for (const auto& [name, value] : launch.request.constexprs)
      row.choice += fmt::format("{}={} ", name, value);
    row.choice +=
        fmt::format("warps={} stages={}", launch.request.num_warps, launch.request.num_stages);
    row.bytes = static_cast<double>(spec.bytes.evaluate(lookup));
    row.flops = static_cast<double>(spec.flops.evaluate(lookup));
    row.op = graph::op_row(node.op).name;
    row.name = graph.value(node.outputs[0]).name;
    row.n_rows = sizes[1];
    if (is_product(launch)) describe_product(graph, launch, sizes, row);
    if (graph::op_row(node.op).op_class == graph::OpClass::attention) describe_attention(step, row);
    return row;
  }

  static void describe_product(const graph::Graph& graph, const graph::PlannedLaunch& launch,
                               const graph::SymbolValues& sizes, KernelRow& row) {
    row.op = "linear";
    row.n_in = graph::dim_value(*size_of(launch, "n_in"), sizes);
    if (const auto n_rows = size_of(launch, "n_rows"))
      row.n_rows = graph::dim_value(*n_rows, sizes);
    // The largest weight is the matrix, whatever its layout.
    std::int64_t most = 0;
    for (const auto& [pointer, id] : launch.call.pointers) {
      if (id == graph::kNoValue || graph.value(id).kind != graph::ValueKind::weight) continue;
      std::int64_t n = 1;
      for (const auto& dim : graph.value(id).shape) n *= dim.offset;
      if (n <= most) continue;
      most = n;
      row.name = short_name(graph.value(id).name);
    }
    row.n_out = most / row.n_in;
  }

  // The spec only knows how long a block table is, not how much of it is read.
  void describe_attention(const StepShape& step, KernelRow& row) const {
    row.op = "attention";
    row.name = step.n_query == 1 ? "decode" : "prefill";
    row.n_batch = step.n_sequences;
    row.n_query = step.n_query;
    row.n_context = step.n_context;
    const auto n_before = step.n_context - step.n_query;
    const auto n_pairs = step.n_query * n_before + step.n_query * (step.n_query + 1) / 2;
    row.flops =
        4.0 * static_cast<double>(step.n_sequences * config_.n_heads * config_.head_dim * n_pairs);
    const auto activation =
        dtype_size_bytes(engine::activation_dtype(device_->info().target, config_.dtype));
    row.bytes = static_cast<double>(step.n_sequences * config_.head_dim) *
                (2.0 * static_cast<double>(config_.n_kv_heads * step.n_context) *
                     static_cast<double>(dtype_size_bytes(config_.dtype)) +
                 2.0 * static_cast<double>(config_.n_heads * step.n_query) *
                     static_cast<double>(activation));
  }

  const KernelBenchOptions& options_;
  const model::ModelConfig whole_;
  const model::ModelConfig config_;  // one layer of each kind
  std::unique_ptr<device::Device> device_;
  const kernel::SpecTable specs_ = kernel::SpecTable::builtin();
  const kernel::TuningTable tuning_;
  const engine::RunnerOptions runner_options_;
  const engine::PlanCatalog catalog_;
  kernel::Bundle bundle_;
  engine::RandomWeights random_{*device_, bundle_, tables()};
  std::map<const kernel::Variant*, const device::Function*> functions_;
  device::Buffer pool_;
};

// What a row reached, as a part of the limit that binds it.
struct Reached {
  double gb_per_s, tflop_per_s, percent;
  const char* limit;
};

Reached reached(const KernelRow& row, const Limits& limits) {
  const double seconds = row.us * 1e-6;
  const double stream = row.bytes / seconds / limits.stream_bytes_per_s;
  const double dot = row.flops / seconds / limits.dot_flops_per_s;
  return {row.bytes / seconds / 1e9, row.flops / seconds / 1e12, 100 * std::max(stream, dot),
          stream >= dot ? "stream" : "dot"};
}

}  // namespace

KernelBenchResult run_kernel_bench(const KernelBenchOptions& options) {
  if (options.rows.empty()) throw Error("no number of rows to measure; expected at least one");
  return KernelBench(options).run();
}

nlohmann::ordered_json rows_json(const KernelBenchResult& result, const std::string& model) {
  auto rows = nlohmann::ordered_json::array();
  for (const auto& row : result.rows) {
    const auto figures = reached(row, result.limits);
    nlohmann::ordered_json json{{"bench", "kernels"}, {"engine", "nereid"}, {"model", model},
                                {"op", row.op},       {"name", row.name},   {"kernel", row.kernel}};
    if (row.op == "attention")
      json.update({{"batch", row.n_batch}, {"query", row.n_query}, {"context", row.n_context}});
    else
      json.update({{"rows", row.n_rows}, {"n_out", row.n_out}, {"n_in", row.n_in}});
    json.update({{"us", row.us},
                 {"gb_per_s", figures.gb_per_s},
                 {"tflop_per_s", figures.tflop_per_s},
                 {"limit", figures.limit},
                 {"percent", figures.percent},
                 {"grid", row.grid},
                 {"choice", row.choice}});
    rows.push_back(std::move(json));
  }
  return rows;
}

std::string table_text(const KernelBenchResult& result) {
  std::string text = fmt::format(
      "{}: {}\nlimits: {:.1f} GB/s, {:.3f} TFLOP/s ({})\n\n{:<10} {:<24} {:<20} {:>22} {:>11} "
      "{:>9} {:>9} {:>6} {}\n",
      result.device.name, result.device.description, result.limits.stream_bytes_per_s / 1e9,
      result.limits.dot_flops_per_s / 1e12, dtype_name(result.limits.dot_dtype), "op", "name",
      "kernel", "shape", "us", "GB/s", "GFLOP/s", "%", "of");
  for (const auto& row : result.rows) {
    const auto figures = reached(row, result.limits);
    const auto shape = row.op == "attention"
                           ? fmt::format("B{} Q{} C{}", row.n_batch, row.n_query, row.n_context)
                           : fmt::format("{} x {} x {}", row.n_rows, row.n_out, row.n_in);
    text += fmt::format("{:<10} {:<24} {:<20} {:>22} {:>11.2f} {:>9.1f} {:>9.1f} {:>6.1f} {}\n",
                        row.op, row.name, row.kernel, shape, row.us, figures.gb_per_s,
                        figures.tflop_per_s * 1e3, figures.percent, figures.limit);
  }
  return text;
}

}  // namespace nereid::measure
