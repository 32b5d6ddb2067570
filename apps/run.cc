// nereid run, nereid compile-graph: any graph written as text, compiled and run on tensors from
// files.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "apps/bench_text.h"
#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/graph_file.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "base/usage_error.h"
#include "device/registry.h"
#include "engine/graph_program_impl.h"
#include "kernel/bundle_source.h"
#include "measure/graph_bench.h"
#include "measure/launch_bench.h"
#include "measure/limits.h"
#include "measure/proof.h"

namespace nereid::apps {

namespace {

struct RunArguments {
  std::string graph, inputs, out, target;
  GraphOptions options;
  bool must_prove = false;
  int n_bench = 0;
};

std::unique_ptr<device::Device> open(const RunArguments& arguments) {
  const auto& options = arguments.options;
  if (!arguments.target.empty()) {
    if (options.device != "auto")
      throw UsageError("--target and --device: expected one of them; each says where to compute");
    return measure::open_device_of(arguments.target, options.n_threads);
  }
  return device::open_device({.name = options.device, .n_threads = options.n_threads});
}

std::string tensors_text(const Tensors& tensors) {
  std::string text;
  for (const auto& [name, tensor] : tensors)
    text += fmt::format("{}: {}[{}]\n", name, tensor.dtype, fmt::join(tensor.shape, ", "));
  return text;
}

int run_run(const RunArguments& arguments) {
  const auto inputs = read_safetensors(arguments.inputs);
  auto recording = std::make_unique<measure::RecordingDevice>(open(arguments));
  const auto& recorded = *recording;
  auto impl = std::make_unique<GraphProgram::Impl>(std::move(recording), arguments.graph,
                                                   arguments.options);
  auto& runner = impl->runner;
  GraphProgram program(std::move(impl));
  const auto outputs = program.run(inputs);
  if (!arguments.out.empty()) write_safetensors(arguments.out, outputs);
  write_out(tensors_text(outputs));
  if (arguments.n_bench > 0)
    write_out("\n" + table_text(measure::run_graph_bench(runner, engine::views_of(inputs),
                                                         arguments.n_bench)));
  if (arguments.must_prove)
    write_out("\n" + proof_text(measure::prove(
                         std::array<const measure::RecordingDevice*, 1>{&recorded})));
  return 0;
}

struct CompileArguments {
  std::string graph, inputs, out_dir, target, isas;
  GraphOptions options;
  int n_jobs = 0;
};

int run_compile(const CompileArguments& arguments) {
  if (!arguments.isas.empty() && kernel::target_family(arguments.target) != "cpu")
    throw Error("--isa is of target cpu; {} has one level", arguments.target);
  const model::SafetensorsFile inputs(arguments.inputs);
  const program::GraphPlanner planner(read_text_file(arguments.graph), arguments.graph,
                                      arguments.options, arguments.target);
  const auto plan = planner.plan(planner.bind(inputs.tensors()));
  auto requests = program::requests_of(plan);
  // `nereid run --bench` then runs from the same bundle.
  for (auto& request : measure::limit_requests(measure::dot_dtype_of(plan.graph, arguments.target),
                                               arguments.target))
    requests.push_back(std::move(request));
  const auto bundle = kernel::compile_bundle(arguments.target, arguments.isas, requests,
                                             arguments.out_dir, arguments.n_jobs);
  fmt::print(stderr, "{}: {} kernels for {}\n", arguments.out_dir, bundle.variants().size(),
             kernel::target_text(bundle));
  return 0;
}

// What both read.
void add_graph(CLI::App& command, std::string& graph, std::string& inputs, GraphOptions& options) {
  command.add_option("GRAPH", graph, "The graph's text, as `nereid inspect graph` reads it")
      ->required()
      ->type_name("");
  command
      .add_option("--inputs", inputs,
                  "A safetensors file with every input, weight and state that the graph declares")
      ->required()
      ->type_name("FILE");
  add_own_ops(command, options.ops);
  command
      .add_option(
          "--mode", options.mode,
          "auto (the fastest the device has), eager (a kernel an operation), compiled (fused "
          "kernels), graph (fused kernels, replayed as one)")
      ->type_name("NAME")
      ->capture_default_str();
  add_skipped_passes(command, options.skip_passes);
  add_untuned(command, options.is_tuned);
}

}  // namespace

void add_run(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<RunArguments>();
  auto& options = arguments->options;
  CLI::App& command = *app.add_subcommand(
      "run", "Run a graph of your own, with operations of your own, on tensors");
  command.footer(
      "\nThe shapes of the inputs say how large the graph's sizes are; docs/running_a_graph.md.\n"
      "Examples:\n  nereid run softmax.txt --inputs x.safetensors --out y.safetensors\n"
      "  nereid run scores.txt --op clipped_softmax.py --inputs x.safetensors --bench 7 --prove");
  add_graph(command, arguments->graph, arguments->inputs, options);
  command.add_option("--out", arguments->out, "A safetensors file for what the graph returns")
      ->type_name("FILE");
  command
      .add_option("--target", arguments->target,
                  "Compute on a device of this target, which must be here: cpu, cuda:90")
      ->type_name("NAME");
  command.add_option("--device", options.device, "Where to compute: auto, cpu, cuda[:i], null")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--threads", options.n_threads, "Threads of the cpu device; 0: all")
      ->check(in_range(engine::ranges::kThreads))
      ->capture_default_str();
  command
      .add_option("--bundle", options.bundle_dir,
                  "Directory of compiled kernels (`nereid compile-graph`); without it: the user's "
                  "cache")
      ->type_name("DIR");
  command.add_flag("--prove", arguments->must_prove,
                   "Fail unless all that was launched came from objects of the bundle, and no "
                   "vendor's compute library is in the process");
  command
      .add_option("--bench", arguments->n_bench,
                  "Time each launch by itself, so many samples: microseconds, and how near the "
                  "limits of the device")
      ->check(in_range(engine::ranges::kCount))
      ->type_name("N");
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_run(*arguments); };
  });
}

void add_compile_graph(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<CompileArguments>();
  CLI::App& command = *app.add_subcommand(
      "compile-graph", "Compile the kernels that a graph of your own needs, for any target");
  command.footer(
      "\nOf the inputs the shapes are read. Needs no GPU; needs Python with the pinned Triton.\n"
      "Example:\n  nereid compile-graph softmax.txt --inputs x.safetensors --target cuda:90 "
      "--out softmax-h100");
  add_graph(command, arguments->graph, arguments->inputs, arguments->options);
  command.add_option("--target", arguments->target, "cpu, cuda:80, cuda:90, hip:gfx942")
      ->required()
      ->type_name("NAME");
  command
      .add_option("--isa", arguments->isas,
                  "cpu: x86-64-v3, x86-64-v4 or aarch64, or several with commas; default: this "
                  "machine's")
      ->type_name("LEVEL[,LEVEL]");
  command.add_option("--out", arguments->out_dir, "The bundle's directory")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--jobs", arguments->n_jobs,
                  "Compilers running at the same time; 0: one a processor")
      ->check(in_range(engine::ranges::kJobs))
      ->capture_default_str();
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_compile(*arguments); };
  });
}

}  // namespace nereid::apps
