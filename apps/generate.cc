// nereid generate: text from prompts, streamed as it is produced.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
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
#include "apps/sampling_options.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "base/usage_error.h"
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
      : n_answers_(std::size_t(requests.front().n_answers)),
        first_(first),
        waiting_(requests.size() * n_answers_) {
    begin_answer();
  }

  void on_progress(const Progress& progress) {
    const auto index =
        std::size_t(progress.request - first_) * n_answers_ + std::size_t(progress.answer);
    waiting_[index].text += progress.text;
    waiting_[index].is_finished = progress.finish_reason != FinishReason::none;
    if (index == current_) print_current();
  }

 private:
  struct Waiting {
    std::string text;
    bool is_finished = false;
  };

  void begin_answer() {
    const auto n_prompts = waiting_.size() / n_answers_;
    std::string name;
    if (n_prompts > 1) name = fmt::format("prompt {} of {}", current_ / n_answers_ + 1, n_prompts);
    if (n_answers_ > 1)
      name += fmt::format("{}answer {} of {}", name.empty() ? "" : ", ", current_ % n_answers_ + 1,
                          n_answers_);
    if (!name.empty()) fmt::print(stderr, "==> {}\n", name);
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
      if (++current_ < waiting_.size()) begin_answer();
    }
  }

  std::size_t n_answers_;  // of each prompt
  RequestId first_;
  std::vector<Waiting> waiting_;
  std::size_t current_ = 0;
  bool ends_line_ = true;
};

std::vector<Request> make_requests(const GenerateArguments& arguments) {
  std::vector<Request> requests = read_prompts(arguments.prompts);
  std::uint64_t seed = arguments.seed;
  const auto n_answers = std::uint64_t(arguments.request.n_answers);
  const std::uint64_t last = engine::ranges::kSeed.high - (requests.size() * n_answers - 1);
  if (seed > last)
    throw UsageError("--seed {}: the last of {} answers would have none; expected at most {}", seed,
                     requests.size() * n_answers, last);
  for (auto& request : requests) {
    Request shared = arguments.request;
    shared.prompt = std::move(request.prompt);
    shared.prompt_ids = std::move(request.prompt_ids);
    shared.sampling.seed = seed;
    seed += n_answers;
    request = std::move(shared);
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

nlohmann::ordered_json logprobs_json(const std::vector<TokenLogprobs>& tokens) {
  auto json = nlohmann::ordered_json::array();
  const auto pair_json = [](const TokenLogprob& token) {
    return nlohmann::ordered_json{{"id", token.id}, {"logprob", token.logprob}};
  };
  for (const auto& token : tokens) {
    json.push_back(pair_json(token.chosen));
    auto top = nlohmann::ordered_json::array();
    for (const auto& other : token.top) top.push_back(pair_json(other));
    json.back()["top"] = std::move(top);
  }
  return json;
}

nlohmann::ordered_json answer_json(const Request& request, const Answer& answer) {
  nlohmann::ordered_json json{{"ids", answer.ids},
                              {"text", answer.text},
                              {"finish_reason", finish_reason_name(answer.finish_reason)}};
  if (request.n_logprobs) json["logprobs"] = logprobs_json(answer.logprobs);
  if (answer.finish_reason == FinishReason::error) json["error"] = answer.error;
  return json;
}

nlohmann::ordered_json output_json(const Engine& engine, const Request& request,
                                   const Completion& completion) {
  std::string prompt = request.prompt;
  if (!request.prompt_ids.empty() && engine.has_tokenizer())
    prompt = engine.decode(request.prompt_ids);
  nlohmann::ordered_json json{{"prompt", prompt},
                              {"prompt_ids", completion.prompt_ids},
                              {"n_cached_tokens", completion.n_cached_tokens}};
  if (request.n_prompt_logprobs)
    json["prompt_logprobs"] = logprobs_json(completion.prompt_logprobs);
  if (completion.answers.size() == 1) {
    json.update(answer_json(request, completion.answers[0]));
    return json;
  }
  for (const auto& answer : completion.answers)
    json["answers"].push_back(answer_json(request, answer));
  return json;
}

// Ids for people, where there is no text to show.
std::string ids_line(const Answer& answer) {
  return fmt::format("{}\n", fmt::join(answer.ids, ","));
}

int run_generate(const GenerateArguments& arguments, const Environment& environment) {
  const std::vector<Request> requests = make_requests(arguments);
  const auto before_open = std::chrono::steady_clock::now();
  Options options = resolve(arguments.model);
  // Room, and kernels made ready, for no more than there are.
  options.max_sequences =
      std::min(options.max_sequences,
               std::int64_t(requests.size()) * std::int64_t(requests.front().n_answers));
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
    for (const Answer& answer : completion.answers) {
      if (answer.finish_reason == FinishReason::error) {
        has_failed = true;
        fmt::print(stderr, "nereid: {}{}\n",
                   ids.size() > 1 ? fmt::format("prompt {}: ", i + 1) : "", answer.error);
      }
      if (!arguments.is_json && !printer) write_out(ids_line(answer));
    }
    if (arguments.is_json) outputs.push_back(output_json(engine, requests[i], completion));
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

// "ID=B" each.
void add_biases(const std::vector<std::string>& texts, Request& request) {
  for (const auto& text : texts) {
    const char* const end = text.data() + text.size();
    TokenBias bias;
    const auto [after_id, id_code] = std::from_chars(text.data(), end, bias.id);
    const char* const number = after_id == end ? end : after_id + 1;
    const auto [rest, code] = std::from_chars(number, end, bias.bias);
    if (id_code != std::errc() || *after_id != '=' || code != std::errc() || rest != end)
      throw CLI::ValidationError("--logit-bias",
                                 fmt::format("\"{}\": expected a token id, =, and a number", text));
    request.logit_bias.push_back(bias);
  }
}

// What the text must be: one of these options at most.
void add_constraint(CLI::App& command, Constraint& constraint) {
  auto* const group = command.add_option_group("Constraint", "What the answer's text must be");
  group->require_option(0, 1);
  group->add_flag_callback(
      "--json-object", [&] { constraint.kind = Constraint::Kind::json_object; }, "A JSON object");
  group
      ->add_option_function<std::string>(
          "--json-schema",
          [&](const std::string& path) {
            constraint = {.kind = Constraint::Kind::json_schema, .text = read_text_file(path)};
          },
          "JSON after the JSON Schema in this file")
      ->type_name("FILE");
  group
      ->add_option_function<std::string>(
          "--regex",
          [&](const std::string& pattern) {
            constraint = {.kind = Constraint::Kind::regex, .text = pattern};
          },
          "Text that this regular expression matches as a whole")
      ->type_name("PATTERN");
  group
      ->add_option_function<std::vector<std::string>>(
          "--choice",
          [&](const std::vector<std::string>& choices) {
            constraint = {.kind = Constraint::Kind::choice, .choices = choices};
          },
          "One of these texts; may be repeated")
      ->allow_extra_args(false)
      ->type_name("TEXT");
}

void add_sampling(CLI::App& command, GenerateArguments& arguments) {
  const std::string group = kAnswerGroup;
  Request& request = arguments.request;
  add_sampling_options(command, request);
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
  command
      .add_option("--stop-id", request.stop_ids, "End the answer with this token; may be repeated")
      ->allow_extra_args(false)
      ->type_name("ID")
      ->group(group);
  command.add_flag("--include-stop", request.include_stop, "Leave the stop text in the answer")
      ->group(group);
  command
      .add_flag("!--special-tokens", request.skip_special_tokens,
                "Special tokens are text, but for the one that ends the answer")
      ->group(group);
  command.add_flag("--ignore-eos", request.ignore_eos, "Go on past the model's end-of-text token")
      ->group(group);
  command
      .add_option("--min-tokens", request.min_tokens,
                  "Until so many are generated, no token ends the answer")
      ->check(in_range(engine::ranges::kMaxTokens))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--answers", request.n_answers,
                  "Answers to each prompt; the first has its seed, the second the next, and so on")
      ->check(in_range(engine::ranges::kAnswers))
      ->capture_default_str()
      ->group(group);
  command
      .add_option_function<std::vector<std::string>>(
          "--logit-bias", [&request](const auto& texts) { add_biases(texts, request); },
          "Add B to the logit of token ID; may be repeated")
      ->allow_extra_args(false)
      ->type_name("ID=B")
      ->group(group);
  command
      .add_option("--allowed-id", request.allowed_ids, "Choose only such tokens; may be repeated")
      ->allow_extra_args(false)
      ->type_name("ID")
      ->group(group);
  const auto add_logprobs = [&](const char* flag, std::optional<std::int32_t>& n,
                                const char* help) {
    command.add_option(flag, n, help)
        ->check(in_range(engine::ranges::kLogprobs))
        ->type_name("N")
        ->group(group);
  };
  add_logprobs("--logprobs", request.n_logprobs,
               "With --json: log-probabilities of each token, and of the N likeliest");
  add_logprobs("--prompt-logprobs", request.n_prompt_logprobs,
               "The same of the prompt's tokens, but the first");
}

}  // namespace

void add_generate(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<GenerateArguments>();
  CLI::App& command = *app.add_subcommand("generate", "Continue prompts with text from a model");
  command.footer(kFooter);
  add_prompts(command, arguments->prompts);
  add_sampling(command, *arguments);
  add_constraint(command, arguments->request.constraint);
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
