// Goal: the program's subcommands, one file each: arguments in, one call of the engine, printing.
// Non-goal: anything another program would want; that belongs under src/.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <functional>

namespace nereid::apps {

// What every command is given beside its own arguments.
struct Environment {
  std::chrono::steady_clock::time_point process_start;
};

// Parsing picks one; main() then runs it. Returns the exit code; throws for failures (exit code 1).
using Command = std::function<int(const Environment&)>;

void add_generate(CLI::App& app, Command& chosen);
void add_serve(CLI::App& app, Command& chosen);
void add_chat(CLI::App& app, Command& chosen);
void add_quantize(CLI::App& app, Command& chosen);
void add_score(CLI::App& app, Command& chosen);
void add_tokenize(CLI::App& app, Command& chosen);
void add_compile(CLI::App& app, Command& chosen);
void add_compile_kernel(CLI::App& app, Command& chosen);
void add_compile_graph(CLI::App& app, Command& chosen);
void add_run(CLI::App& app, Command& chosen);
void add_inspect(CLI::App& app, Command& chosen);
// Subcommands of inspect.
void add_inspect_plan(CLI::App& inspect, Command& chosen);
void add_inspect_graph(CLI::App& inspect, Command& chosen);
void add_inspect_trace(CLI::App& inspect, Command& chosen);
void add_tune(CLI::App& app, Command& chosen);
void add_bench(CLI::App& app, Command& chosen);

}  // namespace nereid::apps
