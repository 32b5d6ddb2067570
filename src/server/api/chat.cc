#include "server/api/chat.h"

#include <fmt/format.h>

#include <ctime>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/api/chat_plan.h"
#include "server/api/chat_writer.h"
#include "server/api/logprobs.h"
#include "server/json_text.h"
#include "server/usage.h"

namespace nereid::server {

namespace {

std::string finish_json(const ChatMessage& message) {
  if (message.finish_reason == FinishReason::stop && !message.calls.empty())
    return "\"tool_calls\"";
  return finish_reason_json(message.finish_reason);
}

class ChatCompletionsWriter : public ChatWriter {
 public:
  ChatCompletionsWriter(const Serving& serving, const std::string& id, const ChatPlan& plan)
      : ChatWriter(plan.output, std::size_t(plan.request.n_answers)),
        tokenizer_(serving.tokenizer()),
        streaming_(plan.streaming),
        has_logprobs_(plan.request.n_logprobs.has_value()),
        has_prompt_logprobs_(plan.has_prompt_logprobs),
        n_prompt_tokens_(std::int64_t(plan.request.prompt_ids.size())),
        choices_(std::size_t(plan.request.n_answers)) {
    head_ =
        fmt::format(R"({{"id":"chatcmpl-{}","object":"chat.completion{}","created":{},"model":)",
                    id, streaming_.is_on ? ".chunk" : "", std::time(nullptr));
    append_json_string(head_, serving.model_name());
    head_ += R"(,"system_fingerprint":)";
    append_json_string(head_, serving.fingerprint());
  }

  void finish(const std::vector<Completion>& completions, std::string& events) override {
    if (streaming_.has_usage)
      fmt::format_to(std::back_inserter(events), "data: {},\"choices\":[],\"usage\":{}}}\n\n",
                     head_, usage_of(completions).json());
    events += "data: [DONE]\n\n";
  }

  std::string body(const std::vector<Completion>& completions) override {
    std::string body = head_ + R"(,"choices":[)";
    for (std::size_t i = 0; i < messages().size(); ++i) {
      if (i > 0) body += ',';
      append_choice(body, i, completions.front().answers[i]);
    }
    body += "]";
    if (has_prompt_logprobs_)
      body += R"(,"prompt_logprobs":)" +
              prompt_logprobs_json(tokenizer_, completions.front().prompt_logprobs);
    return body + R"(,"usage":)" + usage_of(completions).json() + "}";
  }

  std::string error_event(const ApiError& error) override {
    return "data: " + error_body(error) + "\n\n";
  }

 protected:
  void on_part(std::size_t answer, const Progress& progress, std::string& events) override {
    if (!streaming_.is_on) return;
    Choice& choice = choices_[answer];
    choice.n_generated += std::int64_t(progress.ids.size());
    choice.logprobs.clear();
    if (has_logprobs_) append_chat_logprobs(choice.logprobs, tokenizer_, progress.logprobs);
    if (!std::exchange(choice.has_role, true))
      append_chunk(events, answer, R"({"role":"assistant","content":""})", "null");
  }

  void on_delta(std::size_t answer, const chat::OutputDelta& delta, std::string& events) override {
    if (!streaming_.is_on) return;
    using Kind = chat::OutputDelta::Kind;
    std::string json;
    switch (delta.kind) {
      case Kind::content:
        json = fmt::format(R"({{"content":{}}})", json_quoted(delta.text));
        break;
      case Kind::reasoning:
        json = fmt::format(R"({{"reasoning_content":{}}})", json_quoted(delta.text));
        break;
      case Kind::call_begin:
        json = fmt::format(R"({{"tool_calls":[{{"index":{},"id":{},"type":"function","function":)"
                           R"({{"name":{},"arguments":""}}}}]}})",
                           delta.call_index, json_quoted(delta.id), json_quoted(delta.name));
        break;
      case Kind::call_arguments:
        json = fmt::format(R"({{"tool_calls":[{{"index":{},"function":{{"arguments":{}}}}}]}})",
                           delta.call_index, json_quoted(delta.text));
        break;
      case Kind::call_end:
        return;
    }
    append_chunk(events, answer, json, "null");
  }

  void on_end(std::size_t answer, std::string& events) override {
    if (streaming_.is_on) append_chunk(events, answer, "{}", finish_json(messages()[answer]));
  }

 private:
  struct Choice {
    bool has_role = false;
    std::int64_t n_generated = 0;
    std::string logprobs;  // of tokens whose text was told in no chunk yet
  };

  void append_chunk(std::string& events, std::size_t answer, std::string_view delta,
                    std::string_view finish_reason) {
    Choice& choice = choices_[answer];
    fmt::format_to(
        std::back_inserter(events),
        R"(data: {},"choices":[{{"index":{},"delta":{},"logprobs":{},"finish_reason":{}}}])", head_,
        answer, delta, logprobs_json(choice.logprobs), finish_reason);
    choice.logprobs.clear();
    if (streaming_.has_running_usage) {
      events += R"(,"usage":)";
      events += Usage{.n_prompt_tokens = n_prompt_tokens_, .n_generated_tokens = choice.n_generated}
                    .json();
    }
    events += "}\n\n";
  }

  static std::string logprobs_json(const std::string& tokens) {
    return tokens.empty() ? "null" : R"({"content":[)" + tokens + R"(],"refusal":null})";
  }

  void append_choice(std::string& body, std::size_t index, const Answer& answer) {
    const ChatMessage& message = messages()[index];
    fmt::format_to(std::back_inserter(body),
                   R"({{"index":{},"message":{{"role":"assistant","content":)", index);
    if (message.content.empty() && !message.calls.empty())
      body += "null";
    else
      append_json_string(body, message.content);
    body += R"(,"refusal":null)";
    if (!message.reasoning.empty()) {
      body += R"(,"reasoning_content":)";
      append_json_string(body, message.reasoning);
    }
    if (!message.calls.empty()) {
      body += R"(,"tool_calls":[)";
      for (std::size_t i = 0; i < message.calls.size(); ++i) {
        const auto& call = message.calls[i];
        body += i > 0 ? R"(,{"id":)" : R"({"id":)";
        append_json_string(body, call.id);
        body += R"(,"type":"function","function":{"name":)";
        append_json_string(body, call.name);
        body += R"(,"arguments":)";
        append_json_string(body, call.arguments);
        body += "}}";
      }
      body += ']';
    }
    std::string logprobs;
    append_chat_logprobs(logprobs, tokenizer_, answer.logprobs);
    fmt::format_to(std::back_inserter(body), R"(}},"logprobs":{},"finish_reason":{}}})",
                   logprobs_json(logprobs), finish_json(message));
  }

  const tokenizer::Tokenizer& tokenizer_;
  Streaming streaming_;
  bool has_logprobs_, has_prompt_logprobs_;
  std::int64_t n_prompt_tokens_;
  std::string head_;
  std::vector<Choice> choices_;
};

}  // namespace

Prepared prepare_chat(const HttpRequest& http, Serving& serving) {
  const OrderedJson json = parse_body(http.body);
  Fields fields(json);
  const ChatPlan plan = plan_chat(fields, serving);
  auto writer = std::make_unique<ChatCompletionsWriter>(serving, http.id, plan);
  std::vector<Stream> streams;
  streams.push_back(serving.service().submit(plan.request));
  return std::make_unique<LiveAnswer>(std::move(streams), std::move(writer), plan.streaming.is_on);
}

}  // namespace nereid::server
