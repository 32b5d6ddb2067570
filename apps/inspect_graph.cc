// nereid inspect graph: a graph written as text, checked, and what the passes make of it.

#include <memory>
#include <set>
#include <string>

#include "apps/commands.h"
#include "apps/graph_file.h"
#include "apps/model_options.h"
#include "apps/output.h"

namespace nereid::apps {

namespace {

struct GraphArguments {
  std::string file;
  std::string model;
  bool with_passes = false;
  bool with_generated = false;
  std::set<std::string> skipped_passes;
  std::vector<std::filesystem::path> ops;
};

int run_graph(const GraphArguments& arguments) {
  GraphFileOptions options;
  if (!arguments.model.empty()) options.model_dir = model_directory(arguments.model);
  options.with_passes = arguments.with_passes;
  options.with_generated = arguments.with_generated;
  options.skip = arguments.skipped_passes;
  options.ops = arguments.ops;
  write_out(describe_graph_file(arguments.file, options));
  return 0;
}

}  // namespace

void add_inspect_graph(CLI::App& inspect, Command& chosen) {
  auto arguments = std::make_shared<GraphArguments>();
  CLI::App& command = *inspect.add_subcommand(
      "graph", "A graph written as text (as `inspect plan --passes` prints them): checked, fused");
  command.add_option("FILE", arguments->file, "The graph's text")->required();
  command
      .add_option("--model", arguments->model,
                  "Look for its weights here: a Hugging Face snapshot directory, or demo")
      ->type_name("MODEL");
  command.add_flag("--passes", arguments->with_passes, "The graph after each pass");
  command.add_flag("--generated", arguments->with_generated,
                   "The Triton source of each kernel that the graph compiler writes");
  add_skipped_passes(command, arguments->skipped_passes);
  add_own_ops(command, arguments->ops);
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_graph(*arguments); };
  });
}

}  // namespace nereid::apps
