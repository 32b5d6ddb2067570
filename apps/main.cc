// nereid: the command line. Exit codes: 0 done, 1 failed, 2 wrong usage.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <exception>
#include <new>

#include "apps/commands.h"
#include "base/usage_error.h"

namespace {

using nereid::apps::Command;
using nereid::apps::Environment;

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

constexpr const char* kFooter = R"(
Examples:
  nereid generate demo -p "def fibonacci(n):" --stats    write code with the bundled model
  nereid generate path/to/Llama-3.2-1B -p "The moon" -n 64 --temperature 0.8 --seed 7
  nereid serve demo                                       answer over HTTP, as OpenAI's API does
  nereid score demo -f main.py                            how likely is this text?
  nereid quantize demo --to int8 --out demo-int8          a smaller model, for this and other engines
  nereid compile demo --target cuda:90 --out demo-h100    its kernels, compiled for another machine
  nereid inspect model demo                               what is in this model?
  nereid bench e2e demo                                   how fast is it here?

MODEL is a Hugging Face snapshot directory (config.json, *.safetensors, tokenizer.json),
the word demo for the model that comes with this program, or NAME-shape for the config.json of
a well-known one, without weights, such as llama3-8b-shape.
`nereid COMMAND --help` explains each command.)";

// When the process began. What the loader used before main() is processor time spent by now.
std::chrono::steady_clock::time_point process_start() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return std::chrono::steady_clock::now() - std::chrono::seconds(used.tv_sec) -
         std::chrono::nanoseconds(used.tv_nsec);
}

// What --help calls a value, in place of a type.
void name_values(CLI::App& app) {
  const auto formatter = app.get_formatter();
  for (const char* type : {"INT", "UINT"}) formatter->label(type, "N");
  formatter->label("FLOAT", "X");
  formatter->label("REQUIRED", "");
}

int run(int argc, char** argv, const Environment& environment) {
  CLI::App app(
      "Nereid runs large language models with kernels written in Triton, compiled ahead of time.\n"
      "It needs no Python and no GPU libraries to run.",
      "nereid");
  app.set_version_flag("--version", "nereid " NEREID_VERSION " (Triton " NEREID_TRITON_VERSION ")",
                       "Print the version, and that of the Triton whose kernels it takes");
  app.footer(kFooter);
  app.require_subcommand(0, 1);
  name_values(app);
  Command chosen;
  nereid::apps::add_generate(app, chosen);
  nereid::apps::add_serve(app, chosen);
  nereid::apps::add_chat(app, chosen);
  nereid::apps::add_score(app, chosen);
  nereid::apps::add_quantize(app, chosen);
  nereid::apps::add_tokenize(app, chosen);
  nereid::apps::add_compile(app, chosen);
  nereid::apps::add_compile_kernel(app, chosen);
  nereid::apps::add_compile_graph(app, chosen);
  nereid::apps::add_run(app, chosen);
  nereid::apps::add_inspect(app, chosen);
  nereid::apps::add_bench(app, chosen);
  nereid::apps::add_tune(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    fmt::print(stderr, "nereid: {}; --help says more\n", error.what());
    return kWrongUsage;
  }
  if (!chosen) {
    std::fputs(app.help().c_str(), stderr);
    return kWrongUsage;
  }
  return chosen(environment);
}

}  // namespace

int main(int argc, char** argv) {
  const Environment environment{.process_start = process_start()};
  // A reader that went away is then a failed write, which is reported.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(argc, argv, environment);
  } catch (const std::bad_alloc&) {
    std::fputs("nereid: out of memory; try a smaller --context, --batch-size or --kv-blocks\n",
               stderr);
  } catch (const nereid::UsageError& error) {
    std::fprintf(stderr, "nereid: %s\n", error.what());
    return kWrongUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "nereid: %s\n", error.what());
  }
  return kFailed;
}
