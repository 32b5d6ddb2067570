#include "server/api/completions.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "server/api/fill_in.h"
#include "server/api/generation_fields.h"
#include "server/api/logprobs.h"
#include "server/json_text.h"
#include "server/usage.h"

namespace nereid::server {

namespace {

constexpr std::size_t kMaxPrompts = 1024;
constexpr std::int64_t kDefaultMaxTokens = 16;  // OpenAI's

struct CompletionsOptions {
  Streaming streaming;
  bool echoes = false;
  bool tells_nothing_new = false;  // max_tokens 0: the prompt is all that is asked for
  std::optional<std::int32_t> n_logprobs = {};
  bool has_prompt_logprobs = false;       // in vLLM's form
  std::size_t n_answers = 1;              // to each prompt
  std::vector<std::string> prompts = {};  // texts, where they are echoed
};

class CompletionsWriter : public AnswerWriter {
 public:
  CompletionsWriter(const Serving& serving, const std::string& id, CompletionsOptions options,
                    std::size_t n_prompts)
      : tokenizer_(options.n_logprobs || options.has_prompt_logprobs ? &serving.tokenizer()
                                                                     : nullptr),
        options_(std::move(options)) {
    head_ = fmt::format(R"({{"id":"cmpl-{}","object":"text_completion","created":{},"model":)", id,
                        std::time(nullptr));
    append_json_string(head_, serving.model_name());
    head_ += R"(,"system_fingerprint":)";
    append_json_string(head_, serving.fingerprint());
    choices_.resize(n_prompts * options_.n_answers);
    if (options_.n_logprobs)
      for (auto& choice : choices_) choice.logprobs.emplace(*tokenizer_, *options_.n_logprobs);
  }

  void on_progress(std::size_t request, const Progress& progress, std::string& events) override {
    const std::size_t index = request * options_.n_answers + std::size_t(progress.answer);
    Choice& choice = choices_[index];
    choice.n_generated += std::int64_t(progress.ids.size());
    if (choice.logprobs && options_.streaming.is_on) choice.logprobs->add(progress.logprobs);
    if (!options_.streaming.is_on) return;
    const bool is_end = progress.finish_reason != FinishReason::none;
    if (progress.text.empty() && progress.logprobs.empty() && !is_end) return;
    std::string text;
    if (options_.echoes && !std::exchange(choice.is_echoed, true)) text = options_.prompts[request];
    if (!options_.tells_nothing_new) text += progress.text;
    events += "data: ";
    events += head_;
    fmt::format_to(std::back_inserter(events), R"(,"choices":[{{"index":{},"text":)", index);
    append_json_string(events, text);
    fmt::format_to(std::back_inserter(events), R"(,"logprobs":{},"finish_reason":{}}}])",
                   choice.logprobs ? choice.logprobs->take() : "null",
                   finish_reason_json(progress.finish_reason));
    if (options_.streaming.has_running_usage) {
      // Of the prompt only its length is known before the end.
      events += R"(,"usage":)";
      events += Usage{.n_prompt_tokens = n_prompt_tokens_[request],
                      .n_generated_tokens = choice.n_generated}
                    .json();
    }
    events += "}\n\n";
  }

  void finish(const std::vector<Completion>& completions, std::string& events) override {
    if (options_.streaming.has_usage)
      fmt::format_to(std::back_inserter(events), "data: {},\"choices\":[],\"usage\":{}}}\n\n",
                     head_, usage(completions).json());
    events += "data: [DONE]\n\n";
  }

  std::string body(const std::vector<Completion>& completions) override {
    std::string body = head_ + R"(,"choices":[)";
    for (std::size_t i = 0; i < completions.size(); ++i)
      for (std::size_t a = 0; a < options_.n_answers; ++a) {
        if (i + a > 0) body += ',';
        append_choice(body, completions[i], i, a);
      }
    return body + R"(],"usage":)" + usage(completions).json() + "}";
  }

  std::string error_event(const ApiError& error) override {
    return "data: " + error_body(error) + "\n\n";
  }

  void set_prompt_tokens(std::vector<std::int64_t> n_tokens) {
    n_prompt_tokens_ = std::move(n_tokens);
  }

 private:
  struct Choice {
    bool is_echoed = false;
    std::int64_t n_generated = 0;
    std::optional<CompletionLogprobs> logprobs;
  };

  Usage usage(const std::vector<Completion>& completions) const {
    Usage usage = usage_of(completions);
    if (options_.tells_nothing_new) usage.n_generated_tokens = 0;
    return usage;
  }

  void append_choice(std::string& body, const Completion& completion, std::size_t request,
                     std::size_t answer_index) {
    const std::size_t index = request * options_.n_answers + answer_index;
    const Answer& answer = completion.answers[answer_index];
    auto& logprobs = choices_[index].logprobs;
    std::string text;
    if (options_.echoes) text = options_.prompts[request];
    if (logprobs && options_.echoes) {
      logprobs->add_first(completion.prompt_ids.front());
      logprobs->add(completion.prompt_logprobs);
    }
    if (!options_.tells_nothing_new) {
      text += answer.text;
      if (logprobs) logprobs->add(answer.logprobs);
    }
    fmt::format_to(std::back_inserter(body), R"({{"index":{},"text":)", index);
    append_json_string(body, text);
    fmt::format_to(
        std::back_inserter(body), R"(,"logprobs":{},"finish_reason":{})",
        logprobs ? logprobs->take() : "null",
        options_.tells_nothing_new ? "\"length\"" : finish_reason_json(answer.finish_reason));
    if (options_.has_prompt_logprobs)
      body +=
          R"(,"prompt_logprobs":)" + prompt_logprobs_json(*tokenizer_, completion.prompt_logprobs);
    body += '}';
  }

  const tokenizer::Tokenizer* tokenizer_;
  CompletionsOptions options_;
  std::string head_;
  std::vector<Choice> choices_;  // [prompts, answers]
  std::vector<std::int64_t> n_prompt_tokens_;
};

// Each as its text or its ids.
std::vector<Request> read_prompts(Fields& fields) {
  constexpr std::string_view kExpected =
      "a string, a list of strings, a list of token ids, or a list of such lists";
  const OrderedJson& prompt = fields.need("prompt", kExpected);
  const auto ids_of = [&](const OrderedJson& list) {
    std::vector<TokenId> ids;
    ids.reserve(list.size());
    for (const auto& id : list) {
      if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<TokenId>::max())
        fields.fail("prompt", kExpected);
      ids.push_back(id.get<TokenId>());
    }
    if (ids.empty()) fields.fail("prompt", "at least one token");
    return ids;
  };
  std::vector<Request> requests;
  if (prompt.is_string()) {
    requests.push_back({.prompt = prompt.get<std::string>()});
  } else if (prompt.is_array() && !prompt.empty() && prompt.front().is_number()) {
    requests.push_back({.prompt_ids = ids_of(prompt)});
  } else if (prompt.is_array() && !prompt.empty() && prompt.size() <= kMaxPrompts) {
    for (const auto& one : prompt) {
      if (one.is_string())
        requests.push_back({.prompt = one.get<std::string>()});
      else if (one.is_array())
        requests.push_back({.prompt_ids = ids_of(one)});
      else
        fields.fail("prompt", kExpected);
    }
  } else {
    fields.fail("prompt", fmt::format("{}; at most {} of them", kExpected, kMaxPrompts));
  }
  return requests;
}

}  // namespace

Prepared prepare_completions(const HttpRequest& http, Serving& serving) {
  const OrderedJson json = parse_body(http.body);
  Fields fields(json);
  read_model(fields, serving);
  std::vector<Request> requests = read_prompts(fields);

  Request shared;
  read_sampling(fields, serving, shared);
  read_constraint(fields, shared);
  CompletionsOptions options{.streaming = read_streaming(fields)};
  shared.max_tokens = fields.integer("max_tokens", 0).value_or(kDefaultMaxTokens);
  options.echoes = fields.boolean("echo").value_or(false);
  if (shared.max_tokens == 0) {
    if (!options.echoes)
      throw ApiError(400, "\"max_tokens\" is 0 and nothing is echoed: nothing would be answered",
                     "max_tokens", "invalid_value");
    options.tells_nothing_new = true;
    shared.max_tokens = 1;
  }
  if (const auto n = fields.integer("logprobs", 0, kMaxLogprobs)) {
    options.n_logprobs = std::int32_t(*n);
    shared.n_logprobs = options.n_logprobs;
    if (options.echoes) shared.n_prompt_logprobs = options.n_logprobs;
  }
  if (const auto n = fields.integer("prompt_logprobs", 0, kMaxLogprobs)) {
    options.has_prompt_logprobs = true;
    shared.n_prompt_logprobs = std::max(std::int32_t(*n), shared.n_prompt_logprobs.value_or(0));
  }
  if (options.streaming.is_on && shared.n_prompt_logprobs)
    throw ApiError(400, "log-probabilities of the prompt are not streamed; send \"stream\": false",
                   "stream", "unsupported_parameter");
  const auto suffix = fields.text("suffix");
  note_unknown(fields, serving);

  options.n_answers = std::size_t(shared.n_answers);
  std::vector<std::int64_t> n_prompt_tokens;
  for (auto& request : requests) {
    if (suffix) {
      if (!request.prompt_ids.empty())
        throw ApiError(400, "\"suffix\" goes with prompts as text", "suffix", "invalid_value");
      request.prompt_ids = fill_in_ids(serving.tokenizer(), request.prompt, *suffix);
    } else if (request.prompt_ids.empty()) {
      request.prompt_ids = serving.service().encode(request.prompt);
    } else if (options.echoes) {
      request.prompt = serving.service().decode(request.prompt_ids);
    }
    n_prompt_tokens.push_back(std::int64_t(request.prompt_ids.size()));
    if (options.echoes) options.prompts.push_back(request.prompt);
    Request whole = shared;
    whole.prompt_ids = std::move(request.prompt_ids);
    request = std::move(whole);
  }
  const bool streams = options.streaming.is_on;
  auto writer =
      std::make_unique<CompletionsWriter>(serving, http.id, std::move(options), requests.size());
  writer->set_prompt_tokens(std::move(n_prompt_tokens));
  std::vector<Stream> streams_of_requests;
  for (const auto& request : requests)
    streams_of_requests.push_back(serving.service().submit(request));
  return std::make_unique<LiveAnswer>(std::move(streams_of_requests), std::move(writer), streams);
}

}  // namespace nereid::server
