// nereid inspect trace: every kernel launch of a few steps, with its object and time.
#include <memory>
#include <string>

#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "apps/trace_text.h"
#include "base/mapped_file.h"

namespace nereid::apps {

namespace {

struct TraceArguments {
  ModelArguments model;
  measure::TraceOptions trace;
  std::string out;
};

int run_trace(TraceArguments arguments) {
  arguments.trace.engine = resolve(arguments.model);
  const auto trace = measure::record_trace(arguments.trace);
  if (!arguments.out.empty()) write_text_file(arguments.out, chrome_json(trace).dump() + "\n");
  write_out(table_text(trace));
  return 0;
}

}  // namespace

void add_inspect_trace(CLI::App& inspect, Command& chosen) {
  auto arguments = std::make_shared<TraceArguments>();
  auto& options = arguments->trace;
  CLI::App& command = *inspect.add_subcommand(
      "trace", "Every kernel launch of a few steps: kernel, object, grid, time");
  command.footer(
      "\nRuns on random prompts. The file of --out opens in chrome://tracing and ui.perfetto.dev.\n"
      "Example:\n  nereid inspect trace demo --steps 8 --out trace.json");
  add_model_options(command, arguments->model);
  const auto positive = [&](const char* name, auto& value, const char* what) {
    command.add_option(name, value, what)
        ->check(in_range(engine::ranges::kCount))
        ->capture_default_str();
  };
  positive("--batch", options.n_batch, "Prompts at a time");
  positive("--prompt", options.n_prompt_tokens, "Tokens of each prompt");
  positive("--steps", options.n_steps, "Steps; the first computes the prompts");
  command.add_option("--out", arguments->out, "Write the trace as a Chrome trace")
      ->type_name("FILE");
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_trace(*arguments); };
  });
}

}  // namespace nereid::apps
