#include "measure/kernel_bench.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "base/error.h"
#include "device/registry.h"
#include "measure/launch_bench.h"
#include "measure/model_cost.h"
#include "measure/step_planner.h"

namespace nereid::measure {

namespace {

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
    KernelBenchResult result;
    result.device = device_->info();
    const auto quantization =
        program::quantization_of(planner_.whole_config(), options_.engine.quantize);
    result.weights = weights_name(planner_.whole_config(), quantization);
    const auto weight_bytes =
        static_cast<std::size_t>(streamed_weight_bytes(planner_.whole_config(), quantization));
    result.limits = measure_limits(*device_, planner_.whole_config(), options_.engine,
                                   std::max(LaunchBench::kPoolBytes, weight_bytes));
    LaunchBench bench(planner_, *device_);
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
    if (shape.n_context > planner_.planner().settings().limits.max_context_tokens) return;
    const auto step = bench.make_step(shape, n_logits);
    std::set<std::string> seen;
    for (const auto& launch : step.plan.launches) {
      const auto& node = step.plan.graph.nodes[launch.node];
      const bool is_attending = node.row().op_class == graph::OpClass::attention;
      const bool is_wanted =
          is_attention ? is_attending : !is_attending && (is_product(launch) || options_.has_all);
      if (!is_wanted || launch.is_empty(step.plan.graph, step.sizes)) continue;
      auto row = describe(step.plan.graph, launch, shape, step.sizes);
      if (!seen.insert(row.kernel + row.choice + std::to_string(row.n_out) + "/" +
                       std::to_string(row.n_in))
               .second)
        continue;
      row.us = bench.median_us(step, launch, options_.n_repeats);
      rows.push_back(std::move(row));
    }
  }

  KernelRow describe(const graph::Graph& graph, const program::PlannedLaunch& launch,
                     const StepShape& step, const graph::Sizes& sizes) const {
    const auto& node = graph.nodes[launch.node];
    auto row = row_of(graph, launch, sizes);
    row.shape.clear();
    const auto cost = launch_cost(planner_.planner(), graph, launch, step, sizes.n_logits);
    row.bytes = cost.bytes;
    row.flops = cost.flops;
    row.n_rows = sizes.n_tokens;
    if (is_product(launch)) describe_product(graph, launch, sizes, row);
    if (node.row().op_class == graph::OpClass::attention) describe_attention(step, row);
    return row;
  }

  static void describe_product(const graph::Graph& graph, const program::PlannedLaunch& launch,
                               const graph::Sizes& sizes, KernelRow& row) {
    row.op = "linear";
    row.n_in = graph::dim_value(*launch.size_of("n_in"), sizes);
    if (const auto n_rows = launch.size_of("n_rows")) row.n_rows = graph::dim_value(*n_rows, sizes);
    row.name = label_of(graph, launch);
    row.n_out = matrix_of(graph, launch)->shape[0].offset;
  }

  static void describe_attention(const StepShape& step, KernelRow& row) {
    row.op = "attention";
    row.name = step.n_query == 1 ? "decode" : "prefill";
    row.n_batch = step.n_sequences;
    row.n_query = step.n_query;
    row.n_context = step.n_context;
  }

  const KernelBenchOptions& options_;
  const std::unique_ptr<device::Device> device_;
  const StepPlanner planner_;
};

}  // namespace

KernelRow row_of(const graph::Graph& graph, const program::PlannedLaunch& launch,
                 const graph::Sizes& sizes) {
  const auto value_of = [&](const kernel::Expression& expression) {
    return launch.evaluate(expression, graph, sizes);
  };
  const auto& node = graph.nodes[launch.node];
  const auto& result = graph.value(node.outputs[0]);
  KernelRow row;
  row.op = node.row().name;
  row.name = result.name;
  row.kernel = launch.spec->name;
  const auto& grid = launch.spec->grid;
  row.grid = fmt::format("{}x{}x{}", value_of(grid[0]), value_of(grid[1]), value_of(grid[2]));
  const auto& request = launch.choice->request;
  for (const auto& [name, value] : request.constexprs)
    row.choice += fmt::format("{}={} ", name, value);
  row.choice += fmt::format("warps={} stages={}", request.num_warps, request.num_stages);
  for (const auto& dim : result.shape)
    row.shape += fmt::format("{}{}", row.shape.empty() ? "" : " x ", dim_value(dim, sizes));
  row.bytes = static_cast<double>(value_of(launch.spec->bytes));
  row.flops = static_cast<double>(value_of(launch.spec->flops));
  return row;
}

KernelBenchResult run_kernel_bench(const KernelBenchOptions& options) {
  if (options.rows.empty()) throw Error("no number of rows to measure; expected at least one");
  return KernelBench(options).run();
}

}  // namespace nereid::measure
