#include "measure/kernel_bench.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/quantile.h"
#include "device/registry.h"
#include "engine/plan_catalog.h"
#include "kernel/bundle_source.h"
#include "measure/bench_memory.h"
#include "measure/launch_bench.h"
#include "measure/model_cost.h"
#include "measure/step_planner.h"
#include "measure/timing.h"

namespace nereid::measure {

namespace {

constexpr double kTargetMs = 5;
// Prefill and decode, as the report and a batch of two meet them, and one long prompt; steps longer
// than the most rows that are asked for are left out.
constexpr StepShape kAttentionSteps[] = {
    {1, 44, 44}, {2, 512, 512}, {1, 2048, 2048}, {1, 1, 44}, {2, 1, 640}};

class KernelBench {
 public:
  explicit KernelBench(const KernelBenchOptions& options)
      : options_(options),
        device_(device::open_device(
            {.name = options.engine.device, .n_threads = options.engine.n_threads})),
        planner_(options.engine, device_->info().target, steps_of(options)) {}

  KernelBenchResult run() {
    auto requests = planner_.catalog().requests();
    requests.push_back(planner_.fill_request());
    auto bundle = kernel::find_bundle(planner_.tables().specs, planner_.target(),
                                      device_->info().isa, requests,
                                      {.model_dir = options_.engine.model_dir,
                                       .bundle_dir = options_.engine.bundle_dir,
                                       .model_name = options_.engine.model_dir.string()});
    KernelBenchResult result;
    result.device = device_->info();
    const auto weight_bytes =
        static_cast<std::size_t>(streamed_weight_bytes(planner_.whole_config()));
    result.limits = measure_limits(*device_, planner_.whole_config(), options_.engine,
                                   std::max(LaunchBench::kPoolBytes, weight_bytes));
    LaunchBench bench(planner_, *device_, std::move(bundle));
    for (const auto n_rows : options_.rows)
      measure_step(bench, StepPlanner::shape_of(n_rows, 1),
                   std::min(n_rows, StepPlanner::kMaxLogitRows),
                   /*is_attention=*/false, result.rows);
    for (const auto& step : kAttentionSteps)
      measure_step(bench, step, step.n_sequences, /*is_attention=*/true, result.rows);
    return result;
  }

 private:
  static std::vector<StepShape> steps_of(const KernelBenchOptions& options) {
    const auto longest =
        std::max(StepPlanner::kMinStepTokens, *std::ranges::max_element(options.rows));
    std::vector<StepShape> steps;
    for (const auto& step : kAttentionSteps)
      if (step.n_context <= longest) steps.push_back(step);
    for (const auto n_rows : options.rows) steps.push_back(StepPlanner::shape_of(n_rows, 1));
    return steps;
  }

  // The launches of one step that are asked for, each timed alone.
  void measure_step(LaunchBench& bench, const StepShape& shape, std::int64_t n_logits,
                    bool is_attention, std::vector<KernelRow>& rows) {
    if (shape.n_context > planner_.runner_options().max_context_tokens) return;
    const auto step = bench.make_step(shape, n_logits);
    std::set<std::string> seen;
    for (const auto& launch : planner_.catalog().launches(step.key)) {
      const auto& node = step.graph->nodes[launch.node];
      const bool is_attending = graph::op_row(node.op).op_class == graph::OpClass::attention;
      const bool is_wanted =
          is_attention ? is_attending : !is_attending && (is_product(launch) || options_.has_all);
      if (!is_wanted) continue;
      auto row = describe(*step.graph, launch, shape, step.sizes);
      if (!seen.insert(row.kernel + row.choice + std::to_string(row.n_out) + "/" +
                       std::to_string(row.n_in))
               .second)
        continue;
      row.us = time(bench, step, launch);
      rows.push_back(std::move(row));
    }
  }

  double time(LaunchBench& bench, const LaunchBench::Step& step,
              const graph::PlannedLaunch& launch) {
    const auto copies = bench.copies_of(step, launch);
    const auto samples = time_launches(*device_, copies.queue,
                                       {.n_repeats = options_.n_repeats, .target_ms = kTargetMs});
    constexpr double kUsPerSecond = 1e6;
    return median(samples) / static_cast<double>(copies.n) * kUsPerSecond;
  }

  KernelRow describe(const graph::Graph& graph, const graph::PlannedLaunch& launch,
                     const StepShape& step, const graph::SymbolValues& sizes) const {
    const auto& node = graph.nodes[launch.node];
    const auto& spec = kernel::spec_of(launch.request, planner_.tables().specs);
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
    const auto* matrix = matrix_of(graph, launch);
    std::int64_t n = 1;
    for (const auto& dim : matrix->shape) n *= dim.offset;
    row.name = label_of(graph, launch);
    row.n_out = n / row.n_in;
  }

  // The spec only knows how long a block table is, not how much of it is read.
  void describe_attention(const StepShape& step, KernelRow& row) const {
    row.op = "attention";
    row.name = step.n_query == 1 ? "decode" : "prefill";
    row.n_batch = step.n_sequences;
    row.n_query = step.n_query;
    row.n_context = step.n_context;
    const auto& config = planner_.config();
    const auto n_before = step.n_context - step.n_query;
    const auto n_pairs = step.n_query * n_before + step.n_query * (step.n_query + 1) / 2;
    row.flops =
        4.0 * static_cast<double>(step.n_sequences * config.n_heads * config.head_dim * n_pairs);
    const auto activation =
        dtype_size_bytes(engine::activation_dtype(planner_.target(), config.dtype));
    row.bytes = static_cast<double>(step.n_sequences * config.head_dim) *
                (2.0 * static_cast<double>(config.n_kv_heads * step.n_context) *
                     static_cast<double>(dtype_size_bytes(config.dtype)) +
                 2.0 * static_cast<double>(config.n_heads * step.n_query) *
                     static_cast<double>(activation));
  }

  const KernelBenchOptions& options_;
  const std::unique_ptr<device::Device> device_;
  const StepPlanner planner_;
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
