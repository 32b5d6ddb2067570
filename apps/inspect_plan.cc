// nereid inspect plan: what a model's steps launch, how often and why, what each launch moves, and
// how long it takes at least.
#include <fmt/format.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "apps/plan_text.h"
#include "base/usage_error.h"
#include "graph/passes/passes.h"
#include "measure/launch_bench.h"
#include "measure/limits.h"

namespace nereid::apps {

namespace {

struct PlanArguments {
  ModelArguments model;
  std::string target;
  std::int64_t n_ranks = 1;
  bool with_passes = false;
  bool with_choices = false;
  bool is_measured = false;
};

// Keys of a decoding sequence, where a context holds them.
constexpr std::int64_t kDecodeKeys = 512;
constexpr int kMeasureRepeats = 7;
constexpr std::size_t kMinLimitBytes = std::size_t{1} << 30;

// What their makers say of the devices that a target stands for. A processor has to be measured.
std::optional<DeviceSpeed> nominal_speed(std::string_view target) {
  if (target == "cuda:80") return DeviceSpeed{"A100 80 GB", 2.039e12, 312e12};
  if (target == "cuda:90") return DeviceSpeed{"H100 SXM", 3.352e12, 989e12};
  if (target == "hip:gfx942") return DeviceSpeed{"MI300X", 5.325e12, 1307e12};
  return std::nullopt;
}

std::vector<measure::StepShape> shapes_of(const sched::Limits& limits) {
  const auto prompt = std::min(limits.max_batch_tokens, limits.max_context_tokens);
  return {{1, 1, std::min(kDecodeKeys, limits.max_context_tokens)}, {1, prompt, prompt}};
}

struct Measured {
  DeviceSpeed speed;
  std::map<std::string, double> us;
};

// Each launch of a model of one layer of each kind, alone, on memory that no cache holds.
Measured measure_launches(const PlanArguments& arguments, const Options& options,
                          const std::vector<measure::StepShape>& shapes) {
  const auto device = measure::open_device_of(arguments.target, options.n_threads);
  const measure::StepPlanner planner(options, arguments.target, shapes);
  const auto limits =
      measure::measure_limits(*device, planner.whole_config(), options, kMinLimitBytes);
  Measured measured{{fmt::format("{}, measured", device->info().description),
                     limits.stream_bytes_per_s, limits.dot_flops_per_s},
                    {}};
  measure::LaunchBench bench(planner, *device);
  for (const auto& shape : shapes) {
    const auto step = bench.make_step(shape, shape.n_sequences);
    for (const auto& launch : step.plan.launches) {
      if (launch.is_empty(step.plan.graph, step.sizes)) continue;
      const auto cost = measure::launch_cost(planner.planner(), step.plan.graph, launch, shape,
                                             shape.n_sequences);
      auto& us = measured.us[PlanText::launch_id(launch, cost)];
      if (us == 0) us = bench.median_us(step, launch, kMeasureRepeats);
    }
  }
  return measured;
}

std::string passes_text(const program::Planner& eager, const program::Planner& planner) {
  const auto& graph = eager.graph(model::Tail::greedy);
  std::string text = fmt::format("# as the model's description builds it\n{}", print(graph));
  graph::run_passes(graph, {.skip = planner.settings().skip_passes,
                            .observe = [&](const graph::PassReport& report) {
                              text += "\n" + graph::describe(report);
                            }});
  for (const bool is_decode : {true, false})
    text += fmt::format("\n# what a {} step runs\n{}", is_decode ? "decoding" : "prefill",
                        print(planner.graph({model::Tail::greedy, is_decode,
                                             is_decode ? 0 : program::kNBuckets - 1, 0})));
  return text;
}

int run_plan(const PlanArguments& arguments) {
  if (arguments.is_measured && arguments.n_ranks > 1)
    throw UsageError("--measure times one device's launches: expected it without --ranks");
  const Options options = resolve(arguments.model);
  const auto config = model::ModelConfig::load(options.model_dir);
  const auto settings = program::resolve(config, options, arguments.target, {0, arguments.n_ranks});
  const auto tables = program::KernelTables::builtin();
  if (arguments.with_passes) {
    const auto reduced = program::representative(config);
    auto eager = settings;
    eager.mode = "eager";
    auto fused = settings;
    if (fused.mode == "eager") fused.mode = "compiled";
    write_out(passes_text({reduced, eager, tables}, {reduced, fused, tables}));
    return 0;
  }
  const program::Planner planner(config, settings, tables);
  const auto shapes = shapes_of(settings.limits);
  std::optional<DeviceSpeed> speed = nominal_speed(arguments.target);
  std::map<std::string, double> measured_us;
  if (arguments.is_measured) {
    auto measured = measure_launches(arguments, options, shapes);
    speed = std::move(measured.speed);
    measured_us = std::move(measured.us);
  }
  write_out(fmt::format(
      "{} on {}, mode {}: activations {}{}, weights {}, KV cache {}, context {}\n{}\n",
      arguments.model.model, arguments.target, settings.mode,
      dtype_name(program::activation_dtype(arguments.target, config.dtype)),
      settings.has_fp8_activations ? " (fp8e4nv in products of many rows)" : "",
      dtype_name(config.dtype), dtype_name(settings.kv_cache), settings.limits.max_context_tokens,
      speed ? fmt::format("least times, all from memory: {} ({:.0f} GB/s, {:.3g} TFLOP/s)",
                          speed->name, speed->bytes_per_s / 1e9, speed->flops_per_s / 1e12)
            : "least times: --measure measures what this machine reads and multiplies"));
  PlanText text(planner, speed, arguments.with_choices);
  for (const auto& shape : shapes)
    text.add_step(shape, planner.plan(measure::StepPlanner::class_of(shape, shape.n_sequences)),
                  measured_us);
  write_out(text.take());
  return 0;
}

}  // namespace

void add_inspect_plan(CLI::App& inspect, Command& chosen) {
  auto arguments = std::make_shared<PlanArguments>();
  arguments->target = "cpu";
  CLI::App& command = *inspect.add_subcommand(
      "plan", "What steps launch, how often and why, what each launch moves, its least time");
  command.footer(
      "\nExamples:\n  nereid inspect plan demo --measure\n"
      "  nereid inspect plan llama3-8b-shape --target cuda:90");
  add_plan_options(command, arguments->model);
  command.add_option("--target", arguments->target, "cpu, cuda:80, cuda:90, hip:gfx942")
      ->type_name("NAME")
      ->capture_default_str();
  add_ranks(command, arguments->n_ranks);
  command.add_flag("--choices", arguments->with_choices,
                   "The tile sizes of each launch too, and the reasons in full");
  command.add_flag("--measure", arguments->is_measured,
                   "Time each launch by itself on a device of the target, which must be here");
  command.add_flag("--passes", arguments->with_passes,
                   "Instead: the graph before the passes and after each, one layer of each kind");
  command
      .add_option("--bundle", arguments->model.options.bundle_dir,
                  "Directory of compiled kernels for --measure")
      ->type_name("DIR");
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_plan(*arguments); };
  });
}

}  // namespace nereid::apps
