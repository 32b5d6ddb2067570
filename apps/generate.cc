// nereid generate: text from prompts, streamed as it is produced.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "apps/prompts.h"
#include "base/error.h"
#include "base/usage_error.h"
#include "engine/sampling_params.h"
#include "nereid/engine.h"

namespace nereid::apps {

namespace {

constexpr int kInterrupted = 130;  // as shells report a program ended by Ctrl-C

struct GenerateArguments {
  ModelArguments model;
  PromptArguments prompts;
  Request request;  // what all prompts share
  std::uint64_t seed = 0;
  bool is_json = false;
  bool has_stats = false;
};

constexpr const char* kFooter = R"(
Examples:
  nereid generate demo -p "def fibonacci(n):"
  nereid generate demo -p "import os" -p "class Stack:" -n 64 --temperature 0.8 --top-p 0.95
  nereid generate demo -f prompts.jsonl --json > answers.json
The text of one prompt goes to stdout as it is produced; of several, in the order of the prompts.)";

// Streams the texts of all prompts in their order: the first unfinished one live, later ones once
// it is their turn.
class OrderedPrinter {
 public:
  OrderedPrinter(const std::vector<Request>& requests, RequestId first)
      : requests_(requests), first_(first), waiting_(requests.size()) {
    begin_prompt();
  }

  void on_progress(const Progress& progress) {
    const auto index = std::size_t(progress.request - first_);
    waiting_[index].text += progress.text;
    waiting_[index].is_finished = progress.finish_reason != FinishReason::none;
    if (index == current_) print_current();
  }

 private:
  struct Waiting {
    std::string text;
    bool is_finished = false;
  };

  void begin_prompt() {
    if (requests_.size() > 1)
      fmt::print(stderr, "==> prompt {} of {}\n", current_ + 1, requests_.size());
    ends_line_ = true;
  }

  void print_current() {
    while (current_ < waiting_.size()) {
      Waiting& waiting = waiting_[current_];
      write_out(waiting.text);
      if (!waiting.text.empty()) ends_line_ = waiting.text.back() == '\n';
      waiting.text.clear();
      if (!waiting.is_finished) return;
      if (!ends_line_) write_out("\n");
      if (++current_ < waiting_.size()) begin_prompt();
    }
  }

  const std::vector<Request>& requests_;
  RequestId first_;
  std::vector<Waiting> waiting_;
  std::size_t current_ = 0;
  bool ends_line_ = true;
};

std::vector<Request> make_requests(const GenerateArguments& arguments) {
  std::vector<Request> requests = read_prompts(arguments.prompts);
  std::uint64_t seed = arguments.seed;
  const std::uint64_t last = engine::ranges::kSeed.high - (requests.size() - 1);
  if (seed > last)
    throw UsageError("--seed {}: the last of {} prompts would have none; expected at most {}", seed,
                     requests.size(), last);
  for (auto& request : requests) {
    request.sampling = arguments.request.sampling;
    request.sampling.seed = seed++;
    request.max_tokens = arguments.request.max_tokens;
    request.stop = arguments.request.stop;
    request.ignore_eos = arguments.request.ignore_eos;
  }
  return requests;
}

std::vector<RequestId> submit_all(Engine& engine, const std::vector<Request>& requests) {
  std::vector<RequestId> ids;
  for (const auto& request : requests) {
    try {
      ids.push_back(engine.submit(request));
    } catch (const UsageError& error) {
      if (requests.size() == 1) throw;
      throw UsageError("prompt {}: {}", ids.size() + 1, error.what());
    } catch (const Error& error) {
      if (requests.size() == 1) throw;
      throw Error(error.code(), "prompt {}: {}", ids.size() + 1, error.what());
    }
  }
  return ids;
}

void note_written_starts(const Engine& engine, const std::vector<Request>& requests) {
  for (std::size_t i = 0; i < requests.size(); ++i)
    if (requests[i].prompt_ids.empty())
      note_written_start(requests.size() == 1 ? "the prompt" : fmt::format("prompt {}", i + 1),
                         engine.written_start(requests[i].prompt));
}

nlohmann::ordered_json output_json(const Engine& engine, const Request& request,
                                   const Completion& completion) {
  std::string prompt = request.prompt;
  if (!request.prompt_ids.empty() && engine.has_tokenizer())
    prompt = engine.decode(request.prompt_ids);
  nlohmann::ordered_json json{{"prompt", prompt},
                              {"prompt_ids", completion.prompt_ids},
                              {"ids", completion.ids},
                              {"text", completion.text},
                              {"finish_reason", finish_reason_name(completion.finish_reason)}};
  if (completion.finish_reason == FinishReason::error) json["error"] = completion.error;
  return json;
}

// Ids for people, where there is no text to show.
std::string ids_line(const Completion& completion) {
  return fmt::format("{}\n", fmt::join(completion.ids, ","));
}

int run_generate(const GenerateArguments& arguments, const Environment& environment) {
  const std::vector<Request> requests = make_requests(arguments);
  const auto before_open = std::chrono::steady_clock::now();
  Options options = resolve(arguments.model);
  // Room, and kernels made ready, for no more than there are.
  options.max_sequences = std::min(options.max_sequences, std::int64_t(requests.size()));
  Engine engine(options);
  const std::vector<RequestId> ids = submit_all(engine, requests);
  note_written_starts(engine, requests);

  std::optional<OrderedPrinter> printer;
  if (!arguments.is_json && engine.has_tokenizer()) printer.emplace(requests, ids.front());
  const ProgressCallback on_progress = [&](const Progress& progress) {
    if (printer) printer->on_progress(progress);
  };
  const InterruptFlag interrupt;
  bool is_interrupted = false;
  do {
    if (interrupt.is_set() && !std::exchange(is_interrupted, true))
      for (const RequestId id : ids) engine.cancel(id);
  } while (engine.step(on_progress));

  const Stats stats = engine.stats();
  const double start_to_first_token_ms =
      stats.open_to_first_token_ms +
      std::chrono::duration<double, std::milli>(before_open - environment.process_start).count();
  auto outputs = nlohmann::ordered_json::array();
  bool has_failed = false;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const Completion completion = engine.take(ids[i]);
    if (completion.finish_reason == FinishReason::error) {
      has_failed = true;
      fmt::print(stderr, "nereid: {}{}\n", ids.size() > 1 ? fmt::format("prompt {}: ", i + 1) : "",
                 completion.error);
    }
    if (arguments.is_json)
      outputs.push_back(output_json(engine, requests[i], completion));
    else if (!printer)
      write_out(ids_line(completion));
  }
  if (arguments.is_json)
    write_json({{"model", arguments.model.model},
                {"device", engine.device_name()},
                {"mode", engine.mode()},
                {"outputs", std::move(outputs)},
                {"stats", stats_json(stats, start_to_first_token_ms)}});
  if (arguments.has_stats) fmt::print(stderr, "{}\n", stats_line(stats, start_to_first_token_ms));
  if (is_interrupted) return kInterrupted;
  return has_failed ? 1 : 0;
}

void add_sampling(CLI::App& command, GenerateArguments& arguments) {
  const std::string group = "Answer";
  Request& request = arguments.request;
  command.add_option("-n,--max-tokens", request.max_tokens, "Longest answer, in tokens")
      ->check(in_range(engine::ranges::kMaxTokens))
      ->capture_default_str()
      ->group(group);
  for (const engine::SamplingParam& param : engine::kSamplingParams) {
    std::string flag = "--" + std::string(param.name);
    std::ranges::replace(flag, '_', '-');
    std::visit(
        [&](const auto& field) {
          command.add_option(flag, request.sampling.*field.member, param.help)
              ->check(in_range(field.range))
              ->capture_default_str()
              ->group(group);
        },
        param.field);
  }
  command
      .add_option("--seed", arguments.seed,
                  "Of the first prompt; the second has the next, and so on")
      ->check(in_range(engine::ranges::kSeed))
      ->capture_default_str()
      ->group(group);
  command.add_option("--stop", request.stop, "End the answer before this text; may be repeated")
      ->allow_extra_args(false)
      ->check(not_empty())
      ->type_name("TEXT")
      ->group(group);
  command.add_flag("--ignore-eos", request.ignore_eos, "Go on past the model's end-of-text token")
      ->group(group);
}

}  // namespace

void add_generate(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<GenerateArguments>();
  CLI::App& command = *app.add_subcommand("generate", "Continue prompts with text from a model");
  command.footer(kFooter);
  add_prompts(command, arguments->prompts);
  add_sampling(command, *arguments);
  add_model_options(command, arguments->model);
  command.add_flag("--json", arguments->is_json, "One JSON object on stdout instead of text");
  command.add_flag("--stats", arguments->has_stats, "A closing line of statistics on stderr");
  command.callback([arguments, &chosen] {
    require_prompts(arguments->prompts);
    chosen = [arguments](const Environment& environment) {
      return run_generate(*arguments, environment);
    };
  });
}

}  // namespace nereid::apps
