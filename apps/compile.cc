// nereid compile: a bundle of every kernel a model needs on a target, made on any machine.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "base/error.h"
#include "kernel/bundle_source.h"
#include "measure/attention_variants.h"
#include "measure/limits.h"
#include "program/logit_comparison.h"
#include "program/planner.h"
#include "program/quantize_model.h"

namespace nereid::apps {

namespace {

struct CompileArguments {
  ModelArguments model;
  std::string target, isas;
  std::string out_dir;
  int n_jobs = 0;
  std::int64_t n_ranks = 1;
  bool has_untuned = false;
  bool has_designs = false;
};

int run_compile(const CompileArguments& arguments) {
  if (!arguments.isas.empty() && kernel::target_family(arguments.target) != "cpu")
    throw Error("--isa is of target cpu; {} has one level", arguments.target);
  Options options = resolve(arguments.model);
  const auto config = model::ModelConfig::load(options.model_dir);
  std::vector<kernel::KernelRequest> requests;
  const auto add = [&] {
    const auto tables = program::KernelTables::builtin(options.is_tuned);
    std::ranges::move(
        program::requests_for_all_modes(
            config, program::resolve(config, options, arguments.target, {0, arguments.n_ranks}),
            tables),
        std::back_inserter(requests));
  };
  add();
  if (arguments.has_untuned && options.is_tuned) {
    options.is_tuned = false;
    add();
  }
  if (arguments.has_designs)
    std::ranges::move(measure::attention_bench_requests(options, arguments.target),
                      std::back_inserter(requests));
  // `nereid bench`, `nereid score --compare` and `nereid quantize` then run from the same bundle.
  for (auto& request : measure::limit_requests(config, arguments.target))
    requests.push_back(std::move(request));
  const auto tables = program::KernelTables::builtin();
  requests.push_back(program::comparison_request(config.vocab_size, arguments.target, tables));
  if (!options.quantize.empty())
    std::ranges::move(
        program::quantize_model_requests(config, options.quantize, arguments.target, tables),
        std::back_inserter(requests));
  const auto bundle = kernel::compile_bundle(arguments.target, arguments.isas, requests,
                                             arguments.out_dir, arguments.n_jobs);
  fmt::print(stderr, "{}: {} kernels for {}\n", arguments.out_dir, bundle.variants().size(),
             kernel::target_text(bundle));
  return 0;
}

}  // namespace

void add_compile(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<CompileArguments>();
  CLI::App& command =
      *app.add_subcommand("compile", "Compile the kernels a model needs, for any target");
  command.footer(
      "\nNeeds config.json only, no weights and no GPU; needs Python with the pinned Triton.\n"
      "Examples:\n  nereid compile demo --target cpu --out demo-cpu\n"
      "  nereid compile demo --target cpu --isa x86-64-v3,x86-64-v4 --out demo-x86\n"
      "  nereid compile configs/llama3-8b --target cuda:90 --out llama3-8b-h100");
  add_plan_options(command, arguments->model);
  command.add_option("--target", arguments->target, "cpu, cuda:80, cuda:90, hip:gfx942")
      ->required()
      ->type_name("NAME");
  command
      .add_option("--isa", arguments->isas,
                  "cpu: x86-64-v3, x86-64-v4 or aarch64, or several with commas, of which the best "
                  "that a machine runs is used; default: this machine's")
      ->type_name("LEVEL[,LEVEL]");
  add_ranks(command, arguments->n_ranks);
  command.add_option("--out", arguments->out_dir, "The bundle's directory")
      ->required()
      ->type_name("DIR");
  command.add_flag("--with-untuned", arguments->has_untuned,
                   "Kernels by their defaults too, for `nereid bench tuning`");
  command.add_flag("--with-designs", arguments->has_designs,
                   "Every design and variant of attention too, for `nereid bench attention`");
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
