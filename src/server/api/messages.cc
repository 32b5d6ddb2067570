#include "server/api/messages.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>
#include <vector>

#include "server/api/messages_request.h"
#include "server/api/piece_writer.h"
#include "server/json_text.h"
#include "server/usage.h"

namespace nereid::server {

namespace {

class MessagesWriter : public PieceWriter {
 public:
  MessagesWriter(const std::string& model_name, const std::string& id, const ChatPlan& plan)
      : PieceWriter(plan.output, plan.streaming.is_on),
        n_prompt_tokens_(std::int64_t(plan.request.prompt_ids.size())),
        head_(fmt::format(R"("id":"msg_{}","type":"message","role":"assistant","model":{})", id,
                          json_quoted(model_name))) {}

  std::string whole_error(const ApiError& error) override { return messages_error_body(error); }

  std::string error_event(const ApiError& error) override {
    return "event: error\ndata: " + messages_error_body(error) + "\n\n";
  }

 protected:
  void tell_begin(std::string& events) override {
    tell(events, "message_start",
         R"("message":{{{},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{}}})",
         head_, usage_json({.n_prompt_tokens = n_prompt_tokens_}));
    events += "event: ping\ndata: {\"type\":\"ping\"}\n\n";
  }

  void tell_open(const Piece& piece, std::string& events) override {
    Piece empty = piece;
    empty.text.clear();
    tell(events, "content_block_start", R"("index":{},"content_block":{})", index(),
         block_json(empty));
  }

  void tell_more(const Piece& piece, std::string_view text, std::string& events) override {
    switch (piece.kind) {
      case Piece::Kind::reasoning:
        tell_delta(events, "thinking_delta", "thinking", text);
        break;
      case Piece::Kind::content:
        tell_delta(events, "text_delta", "text", text);
        break;
      case Piece::Kind::call:
        tell_delta(events, "input_json_delta", "partial_json", text);
        break;
    }
  }

  void tell_close(const Piece& piece, std::string& events) override {
    // Clients send it back with the block; there is nothing here that it would prove.
    if (piece.kind == Piece::Kind::reasoning)
      tell_delta(events, "signature_delta", "signature", "");
    tell(events, "content_block_stop", R"("index":{})", index());
  }

  void tell_end(const Answer& answer, const Usage& usage, std::string& events) override {
    tell(events, "message_delta", R"("delta":{{{}}},"usage":{})", stop_json(answer),
         usage_json(usage));
    events += "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
  }

  std::string whole(const Answer& answer, const Usage& usage) override {
    auto body = fmt::format(R"({{{},"content":[)", head_);
    for (std::size_t i = 0; i < pieces().size(); ++i) {
      if (i > 0) body += ',';
      body += block_json(pieces()[i]);
    }
    fmt::format_to(std::back_inserter(body), R"(],{},"usage":{}}})", stop_json(answer),
                   usage_json(usage));
    return body;
  }

 private:
  template <typename... Args>
  static void tell(std::string& events, std::string_view type, fmt::format_string<Args...> fields,
                   Args&&... args) {
    fmt::format_to(std::back_inserter(events), "event: {0}\ndata: {{\"type\":\"{0}\",", type);
    fmt::format_to(std::back_inserter(events), fields, std::forward<Args>(args)...);
    events += "}\n\n";
  }

  void tell_delta(std::string& events, std::string_view type, std::string_view field,
                  std::string_view text) {
    tell(events, "content_block_delta", R"("index":{},"delta":{{"type":"{}","{}":{}}})", index(),
         type, field, json_quoted(text));
  }

  static std::string block_json(const Piece& piece) {
    const auto text = json_quoted(piece.text);
    switch (piece.kind) {
      case Piece::Kind::reasoning:
        return fmt::format(R"({{"type":"thinking","thinking":{},"signature":""}})", text);
      case Piece::Kind::content:
        return fmt::format(R"({{"type":"text","text":{}}})", text);
      case Piece::Kind::call:
        break;
    }
    // A call that the end cut has no input that is JSON; the stop reason says that it was cut.
    return fmt::format(R"({{"type":"tool_use","id":{},"name":{},"input":{}}})",
                       json_quoted(piece.id), json_quoted(piece.name),
                       OrderedJson::accept(piece.text) ? piece.text : "{}");
  }

  std::string stop_json(const Answer& answer) const {
    const char* reason = answer.finish_reason != FinishReason::stop ? "max_tokens"
                         : !answer.stop.empty()                     ? "stop_sequence"
                         : has_calls()                              ? "tool_use"
                                                                    : "end_turn";
    return fmt::format(R"("stop_reason":"{}","stop_sequence":{})", reason,
                       answer.stop.empty() ? "null" : json_quoted(answer.stop));
  }

  static std::string usage_json(const Usage& usage) {
    return fmt::format(
        R"({{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},)"
        R"("output_tokens":{}}})",
        usage.n_prompt_tokens - usage.n_cached_tokens, usage.n_cached_tokens,
        usage.n_generated_tokens);
  }

  std::int64_t n_prompt_tokens_;
  std::string head_;
};

}  // namespace

std::string messages_error_body(const ApiError& error) {
  const auto type = error.status == 413   ? "request_too_large"
                    : error.status == 500 ? "api_error"
                                          : error_type(error.status);
  return fmt::format(R"({{"type":"error","error":{{"type":"{}","message":{}}}}})", type,
                     json_quoted(error.what()));
}

std::unique_ptr<AnswerWriter> messages_writer(const std::string& model_name, const std::string& id,
                                              const ChatPlan& plan) {
  return std::make_unique<MessagesWriter>(model_name, id, plan);
}

Prepared prepare_messages(const HttpRequest& http, Serving& serving) {
  const auto json = read_messages_request(parse_body(http.body), serving, /*needs_length=*/true);
  Fields fields(json);
  const ChatPlan plan = plan_chat(fields, serving);
  auto writer = messages_writer(serving.model_name(), http.id, plan);
  std::vector<Stream> streams;
  streams.push_back(serving.service().submit(plan.request));
  return std::make_unique<LiveAnswer>(std::move(streams), std::move(writer), plan.streaming.is_on);
}

HttpReply count_tokens_reply(const HttpRequest& http, Serving& serving) {
  const auto json = read_messages_request(parse_body(http.body), serving, /*needs_length=*/false);
  Fields fields(json);
  const ChatPlan plan = plan_chat(fields, serving);
  return {.body = fmt::format(R"({{"input_tokens":{}}})", plan.request.prompt_ids.size())};
}

}  // namespace nereid::server
