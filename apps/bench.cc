// nereid bench: how fast a model or its kernels are here, and what the device would allow.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "apps/bench_text.h"
#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"

namespace nereid::apps {

namespace {

struct EndToEndArguments {
  ModelArguments model;
  measure::EndToEndOptions bench;
  bool is_json = false;
};

struct KernelArguments {
  ModelArguments model;
  measure::KernelBenchOptions bench;
  bool is_json = false;
};

struct ServeArguments {
  ModelArguments model;
  measure::ServeBenchOptions bench;
  bool is_json = false;
};

struct AttentionArguments {
  ModelArguments model;
  measure::AttentionBenchOptions bench;
  bool is_json = false;
};

struct SweepArguments {
  ModelArguments model;
  measure::SweepOptions bench;
  bool is_json = false;
};

int run_sweep(SweepArguments arguments) {
  arguments.bench.engine = resolve(arguments.model);
  const auto result = measure::run_sweep(arguments.bench);
  if (arguments.is_json)
    write_json(bench_json(result, arguments.model.model));
  else
    write_out(table_text(result));
  return 0;
}

int run_attention(AttentionArguments arguments) {
  arguments.bench.engine = resolve(arguments.model);
  const auto result = measure::run_attention_bench(arguments.bench);
  if (arguments.is_json)
    write_json(bench_json(result, arguments.model.model));
  else
    write_out(table_text(result));
  return 0;
}

int run_serve(ServeArguments arguments) {
  arguments.bench.engine = resolve(arguments.model);
  const auto result = measure::run_serve_bench(arguments.bench);
  if (arguments.is_json)
    write_json(bench_json(result, arguments.bench.workload, arguments.model.model));
  else
    write_out(table_text(result));
  return 0;
}

int run_end_to_end(EndToEndArguments arguments) {
  arguments.bench.engine = resolve(arguments.model);
  const auto result = measure::run_end_to_end(arguments.bench);
  if (arguments.is_json)
    write_json(bench_json(result, arguments.bench, arguments.model.model));
  else
    write_out(table_text(result, arguments.bench));
  return 0;
}

int run_kernels(KernelArguments arguments) {
  arguments.bench.engine = resolve(arguments.model);
  const auto result = measure::run_kernel_bench(arguments.bench);
  if (arguments.is_json)
    write_json(bench_json(result, arguments.model.model));
  else
    write_out(table_text(result));
  return 0;
}

template <typename T>
void add_count(CLI::App& command, const char* name, T& value, const char* what) {
  command.add_option(name, value, what)
      ->check(in_range(engine::ranges::kCount))
      ->capture_default_str();
}

void add_bench_machine(CLI::App& command, Options& options, bool& is_json) {
  command
      .add_option("--device", options.device,
                  "Where to compute: auto, cpu, cuda[:i]; a model on several: "
                  "cuda:0,cuda:1 or cpu:2 (e2e, sweep)")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--threads", options.n_threads, "Threads of the cpu device; 0: all")
      ->check(in_range(engine::ranges::kThreads))
      ->capture_default_str();
  command
      .add_option(
          "--bundle", options.bundle_dir,
          "Directory of compiled kernels; without it: beside the model, then the user's cache")
      ->type_name("DIR");
  add_skipped_passes(command, options.skip_passes);
  add_untuned(command, options.is_tuned);
  command.add_flag("--batch-invariant", options.batch_invariant,
                   "The same kernels for every number of rows; slower");
  command.add_flag("--json", is_json, "One JSON object on stdout instead of a table");
}

void add_workload(CLI::App& command, EndToEndArguments& arguments) {
  auto& options = arguments.bench;
  add_model(command, arguments.model);
  add_count(command, "--batch", options.workload.n_batch, "Prompts at a time");
  add_count(command, "--prompt", options.workload.n_prompt_tokens, "Tokens of each prompt");
  add_count(command, "--output", options.workload.n_output_tokens, "Tokens of each answer");
  add_count(command, "--repeats", options.n_repeats,
            "Generations that are timed; medians are told");
  command.add_option("--warmup", options.n_warmup, "Generations before those")
      ->check(in_range(engine::ranges::kCountOrNone))
      ->capture_default_str();
  command.add_option("--seed", options.workload.seed, "Of the prompts' ids")
      ->check(in_range(engine::ranges::kSeed))
      ->capture_default_str();
  options.modes = {"auto"};
  add_attention(command, arguments.model.options.attention);
  add_quantize(command, arguments.model.options.quantize);
  add_activations(command, arguments.model.options.activations);
  add_kv_cache(command, arguments.model.options.kv_cache);
  command.add_flag("--random-weights", arguments.model.options.random_weights,
                   "Needs only config.json: weights are made on the device");
}

void add_end_to_end(CLI::App& bench, Command& chosen) {
  auto arguments = std::make_shared<EndToEndArguments>();
  auto& options = arguments->bench;
  CLI::App& command = *bench.add_subcommand(
      "e2e",
      "Prompts in, answers out: tokens a second, time to the first token and between tokens");
  command.footer(
      "\nAll prompts are of random ids and computed in one step; answers are greedy and go on past "
      "the end of text.\nExamples:\n  nereid bench e2e demo --device cpu\n"
      "  nereid bench e2e configs/llama3-8b --random-weights --modes eager,compiled,graph --prove");
  add_workload(command, *arguments);
  command
      .add_option("--modes", options.modes,
                  "Which of auto, eager, compiled, graph; they take turns where memory holds all")
      ->delimiter(',')
      ->type_name("LIST")
      ->capture_default_str();
  command.add_flag("--prove", options.must_prove,
                   "Fail unless all that was launched came from objects of the bundle, and no "
                   "vendor's compute library is in the process");
  add_bench_machine(command, arguments->model.options, arguments->is_json);
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_end_to_end(*arguments); };
  });
}

void add_tuning(CLI::App& bench, Command& chosen) {
  auto arguments = std::make_shared<EndToEndArguments>();
  auto& options = arguments->bench;
  CLI::App& command = *bench.add_subcommand(
      "tuning", "The same end to end with measured choices of kernels and with their defaults");
  command.footer(
      "\nThe two take turns where memory holds both.\nExamples:\n  nereid bench tuning demo\n"
      "  nereid bench tuning llama3-8b-shape --random-weights --batch 16");
  add_workload(command, *arguments);
  options.compares_tuning = true;
  command.add_option("--mode", options.modes[0], "auto, eager, compiled or graph")
      ->type_name("NAME")
      ->capture_default_str();
  add_bench_machine(command, arguments->model.options, arguments->is_json);
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_end_to_end(*arguments); };
  });
}

void add_bench_serve(CLI::App& bench, Command& chosen) {
  auto arguments = std::make_shared<ServeArguments>();
  auto& workload = arguments->bench.workload;
  auto& engine = arguments->model.options;
  CLI::App& command = *bench.add_subcommand(
      "serve", "Requests that come and go: tokens a second, first tokens and the time between");
  command.footer(
      "\nPrompts are of random ids; answers are greedy and go on past the end of text.\n"
      "Examples:\n  nereid bench serve demo --requests 64 --at-once 8 --prompt 16,128\n"
      "  nereid bench serve configs/llama3-8b --random-weights --rate 20");
  add_model(command, arguments->model);
  add_count(command, "--requests", workload.n_requests, "Requests in all");
  add_count(command, "--at-once", workload.n_at_once, "At most so many are unanswered");
  command
      .add_option("--rate", workload.requests_per_s,
                  "Requests a second, at random times; 0: each as soon as there is room")
      ->check(in_range(engine::ranges::kRate))
      ->capture_default_str();
  const auto range = [&](const char* name, std::int64_t& low, std::int64_t& high,
                         const char* what) {
    command
        .add_option_function<std::vector<std::int64_t>>(
            name,
            [&low, &high](const std::vector<std::int64_t>& both) {
              low = both[0];
              high = both[1];
            },
            what)
        ->delimiter(',')
        ->expected(2)
        ->check(in_range(engine::ranges::kCount))
        ->type_name("LOW,HIGH")
        ->default_str(fmt::format("{},{}", low, high));
  };
  range("--prompt", workload.min_prompt_tokens, workload.max_prompt_tokens,
        "Tokens of a prompt, uniform between these");
  range("--output", workload.min_answer_tokens, workload.max_answer_tokens,
        "Tokens of an answer, uniform between these");
  command.add_option("--seed", workload.seed, "Of lengths, ids and times")
      ->check(in_range(engine::ranges::kSeed))
      ->capture_default_str();
  command
      .add_option("--context", engine.max_context_tokens,
                  "Longest prompt and answer together, in tokens; 0: the model's")
      ->check(in_range(engine::ranges::kContextTokens))
      ->capture_default_str();
  for (const auto& [name, value, what] :
       {std::tuple("--max-batch-tokens", &engine.max_batch_tokens,
                   "Tokens computed in one step; 0: what suits the device"),
        std::tuple("--max-mixed-tokens", &engine.max_mixed_tokens,
                   "The same of steps in which answers go on; 0: what suits the device")})
    command.add_option(name, *value, what)
        ->check(in_range(engine::ranges::kBatchTokens))
        ->capture_default_str();
  command.add_option("--mode", engine.mode, "auto, eager, compiled or graph")
      ->type_name("NAME")
      ->capture_default_str();
  add_quantize(command, engine.quantize);
  add_activations(command, engine.activations);
  add_kv_cache(command, engine.kv_cache);
  command.add_flag("--random-weights", engine.random_weights,
                   "Needs only config.json: weights are made on the device");
  add_bench_machine(command, engine, arguments->is_json);
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_serve(*arguments); };
  });
}

void add_kernels(CLI::App& bench, Command& chosen) {
  auto arguments = std::make_shared<KernelArguments>();
  auto& options = arguments->bench;
  CLI::App& command = *bench.add_subcommand(
      "kernels", "Each kernel of a model's layer by itself: microseconds, and how near the limits");
  command.footer(
      "\nEach runs as the planner would launch it, on weights and caches that no cache holds.\n"
      "Examples:\n  nereid bench kernels demo --device cpu --rows 1,8,512\n"
      "  nereid bench kernels configs/llama3-8b --mode compiled --json");
  add_model(command, arguments->model);
  command
      .add_option("--mode", arguments->model.options.mode, "As the model is planned in this mode")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--rows", options.rows, "Tokens in a step")
      ->delimiter(',')
      ->check(in_range(engine::ranges::kCount))
      ->type_name("LIST")
      ->capture_default_str();
  command.add_option("--repeats", options.n_repeats, "Samples, of which the median is told")
      ->check(in_range(engine::ranges::kCount))
      ->capture_default_str();
  add_attention(command, arguments->model.options.attention);
  add_quantize(command, arguments->model.options.quantize);
  add_activations(command, arguments->model.options.activations);
  command.add_flag("--all", options.has_all, "Norms, rotations and the rest too");
  add_bench_machine(command, arguments->model.options, arguments->is_json);
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_kernels(*arguments); };
  });
}

void add_bench_attention(CLI::App& bench, Command& chosen) {
  auto arguments = std::make_shared<AttentionArguments>();
  auto& options = arguments->bench;
  auto& engine = arguments->model.options;
  CLI::App& command = *bench.add_subcommand(
      "attention", "Published designs of attention: what each serves, and how fast it is");
  command.footer(
      "\nAnswers are compared with those of this program's own attention in eager mode; kernels "
      "run "
      "as the planner would launch them in compiled mode.\n"
      "Examples:\n  nereid bench attention demo --device cpu\n"
      "  nereid bench attention llama3-8b-shape --random-weights "
      "--variants causal,alibi,softcap,window");
  add_model(command, arguments->model);
  command.add_option("--designs", options.designs, "Which of them; without it all")
      ->delimiter(',')
      ->type_name("LIST");
  command
      .add_option(
          "--variants", options.variants,
          "Functions of scores and masks that sizes are measured with: causal (as the model "
          "has it), alibi, softcap (50), window (1024)")
      ->delimiter(',')
      ->type_name("LIST")
      ->capture_default_str();
  command.add_option("--prompt", options.prompt, "Whose answers are compared")
      ->check(not_empty())
      ->type_name("TEXT");
  command
      .add_option("--max-tokens", options.max_tokens,
                  "Sizes double from 128 to this; 0: 1024 on a CPU, 16384 on a GPU")
      ->check(in_range(engine::ranges::kContextTokens))
      ->capture_default_str();
  add_count(command, "--repeats", options.n_repeats, "Samples, of which the median is told");
  command.add_flag("--random-weights", engine.random_weights,
                   "Needs only config.json: answers are not compared");
  add_bench_machine(command, engine, arguments->is_json);
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_attention(*arguments); };
  });
}

void add_sweep(CLI::App& bench, Command& chosen) {
  auto arguments = std::make_shared<SweepArguments>();
  auto& options = arguments->bench;
  auto& engine = arguments->model.options;
  CLI::App& command = *bench.add_subcommand(
      "sweep", "A step over many sequences, contexts and samplers, and prompts of many lengths");
  command.footer(
      "\nIds are random; answers go on past the end of text. Samplers: greedy; temperature (0.8); "
      "top-p (0.8, 0.95); all (0.8, top-k 40, top-p 0.95, min-p 0.02, repetition penalty 1.1).\n"
      "Examples:\n  nereid bench sweep demo --sequences 1,8,64\n"
      "  nereid bench sweep llama3-8b-shape --random-weights --sequences 1,2,4,8,16,32,64,128,256 "
      "--samplers greedy,all --prompts 2048,8000");
  add_model(command, arguments->model);
  const auto list = [&](const char* name, std::vector<std::int64_t>& values, const char* what) {
    command.add_option(name, values, what)
        ->delimiter(',')
        ->check(in_range(engine::ranges::kCount))
        ->type_name("LIST")
        ->capture_default_str();
  };
  list("--sequences", options.sequences, "Sequences that decode at a time");
  list("--contexts", options.contexts, "Tokens before the first step that is timed");
  command.add_option("--samplers", options.samplers, "How the next token is chosen; see below")
      ->delimiter(',')
      ->type_name("LIST")
      ->capture_default_str();
  list("--prompts", options.prompts, "Tokens of one prompt whose first token is timed");
  add_count(command, "--steps", options.n_steps, "Steps that are timed of each; medians are told");
  add_count(command, "--repeats", options.n_repeats, "Prompts that are timed of each length");
  command.add_option("--seed", options.seed, "Of the ids")
      ->check(in_range(engine::ranges::kSeed))
      ->capture_default_str();
  command.add_option("--mode", engine.mode, "auto, eager, compiled or graph")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--max-batch-tokens", engine.max_batch_tokens,
                  "Tokens computed in one step; 0: what suits the device")
      ->check(in_range(engine::ranges::kBatchTokens))
      ->capture_default_str();
  add_quantize(command, engine.quantize);
  add_activations(command, engine.activations);
  add_kv_cache(command, engine.kv_cache);
  command.add_flag("--random-weights", engine.random_weights,
                   "Needs only config.json: weights are made on the device");
  add_bench_machine(command, engine, arguments->is_json);
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_sweep(*arguments); };
  });
}

}  // namespace

void add_bench(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("bench", "Measure a model, or its kernels one by one");
  command.footer("\nExamples:\n  nereid bench e2e demo\n  nereid bench kernels demo --device cpu");
  command.require_subcommand(1);
  add_end_to_end(command, chosen);
  add_tuning(command, chosen);
  add_bench_serve(command, chosen);
  add_kernels(command, chosen);
  add_bench_attention(command, chosen);
  add_sweep(command, chosen);
}

}  // namespace nereid::apps
