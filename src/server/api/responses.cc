#include "server/api/responses.h"

#include <fmt/format.h>

#include <ctime>
#include <iterator>
#include <utility>
#include <vector>

#include "server/api/piece_writer.h"
#include "server/json_text.h"
#include "server/usage.h"

namespace nereid::server {

namespace {

constexpr std::string_view kInProgress = "in_progress";
constexpr std::string_view kCompleted = "completed";
constexpr std::string_view kIncomplete = "incomplete";

// What the model called a custom tool with.
std::string custom_input(const std::string& arguments) {
  const auto json = OrderedJson::parse(arguments, nullptr, /*allow_exceptions=*/false);
  return json.is_object() && json.contains("input") && json["input"].is_string()
             ? json["input"].get<std::string>()
             : arguments;
}

class ResponsesWriter : public PieceWriter {
 public:
  ResponsesWriter(const std::string& model_name, const std::string& id, const ChatPlan& plan,
                  ResponsesRequest request)
      : PieceWriter(plan.output, plan.streaming.is_on), id_(id), tools_(std::move(request.tools)) {
    auto& echo = request.echo;
    const auto or_else = [&](const char* name, OrderedJson json) {
      if (!echo.contains(name)) echo[name] = std::move(json);
    };
    or_else("instructions", nullptr);
    or_else("max_output_tokens", nullptr);
    or_else("metadata", OrderedJson::object());
    or_else("reasoning", {{"effort", nullptr}, {"summary", nullptr}});
    or_else("tool_choice", "auto");
    or_else("tools", OrderedJson::array());
    echo["previous_response_id"] = nullptr;
    echo["store"] = false;
    echo["truncation"] = "disabled";
    head_ = fmt::format(R"({{"id":"resp_{}","object":"response","created_at":{},"model":{},)"
                        R"("temperature":{},"top_p":{},)",
                        id_, std::time(nullptr), json_quoted(model_name),
                        plan.request.sampling.temperature, plan.request.sampling.top_p);
    head_.append(echo.dump(), 1);  // without its brace
    head_.back() = ',';
  }

  std::string error_event(const ApiError& error) override {
    std::string events;
    const auto why = fmt::format(R"({{"code":{},"message":{}}})",
                                 json_quoted(error.status < 500 ? error.code : "server_error"),
                                 json_quoted(error.what()));
    tell(events, "response.failed", R"("response":{})", response_json("failed", {}, why));
    return events;
  }

 protected:
  void tell_begin(std::string& events) override {
    tell(events, "response.created", R"("response":{})", response_json(kInProgress));
    tell(events, "response.in_progress", R"("response":{})", response_json(kInProgress));
  }

  void tell_open(const Piece& piece, std::string& events) override {
    tell(events, "response.output_item.added", R"("output_index":{},"item":{})", index(),
         item_json(piece, index(), Extent::begin));
    if (piece.kind != Piece::Kind::call)
      tell_part(events, "response.content_part.added", R"("part":{})", part_json(piece, ""));
  }

  void tell_more(const Piece& piece, std::string_view text, std::string& events) override {
    switch (piece.kind) {
      case Piece::Kind::reasoning:
        tell_part(events, "response.reasoning_text.delta", R"("delta":{})", json_quoted(text));
        break;
      case Piece::Kind::content:
        tell_part(events, "response.output_text.delta", R"("delta":{},"logprobs":[])",
                  json_quoted(text));
        break;
      case Piece::Kind::call:
        // A custom tool's text is known once its JSON is whole.
        if (!is_custom(piece))
          tell_of_item(events, "response.function_call_arguments.delta", R"("delta":{})",
                       json_quoted(text));
        break;
    }
  }

  void tell_close(const Piece& piece, std::string& events) override {
    switch (piece.kind) {
      case Piece::Kind::reasoning:
        tell_part(events, "response.reasoning_text.done", R"("text":{})", json_quoted(piece.text));
        break;
      case Piece::Kind::content:
        tell_part(events, "response.output_text.done", R"("text":{},"logprobs":[])",
                  json_quoted(piece.text));
        break;
      case Piece::Kind::call:
        if (is_custom(piece)) {
          const auto input = json_quoted(custom_input(piece.text));
          tell_of_item(events, "response.custom_tool_call_input.delta", R"("delta":{})", input);
          tell_of_item(events, "response.custom_tool_call_input.done", R"("input":{})", input);
        } else {
          tell_of_item(events, "response.function_call_arguments.done",
                       R"("name":{},"arguments":{})", json_quoted(client_tool(piece).name),
                       json_quoted(piece.text));
        }
        break;
    }
    if (piece.kind != Piece::Kind::call)
      tell_part(events, "response.content_part.done", R"("part":{})", part_json(piece, piece.text));
    tell(events, "response.output_item.done", R"("output_index":{},"item":{})", index(),
         item_json(piece, index(), Extent::all));
  }

  void tell_end(const Answer& answer, const Usage& usage, std::string& events) override {
    tell(events, is_cut() ? "response.incomplete" : "response.completed", R"("response":{})",
         whole(answer, usage));
  }

  std::string whole(const Answer& /*answer*/, const Usage& usage) override {
    return response_json(is_cut() ? kIncomplete : kCompleted, usage_json(usage));
  }

 private:
  enum class Extent : std::uint8_t { begin, all };

  bool is_cut() const { return messages().front().finish_reason != FinishReason::stop; }

  ClientTool client_tool(const Piece& call) const {
    const auto tool = tools_.find(call.name);
    return tool == tools_.end() ? ClientTool{.name_space = {}, .name = call.name} : tool->second;
  }
  bool is_custom(const Piece& call) const { return client_tool(call).is_custom; }

  // An event, its fields as a format after the two that all have.
  template <typename... Args>
  void tell(std::string& events, std::string_view type, fmt::format_string<Args...> fields,
            Args&&... args) {
    fmt::format_to(std::back_inserter(events),
                   "event: {0}\ndata: {{\"type\":\"{0}\",\"sequence_number\":{1},", type,
                   n_events_++);
    fmt::format_to(std::back_inserter(events), fields, std::forward<Args>(args)...);
    events += "}\n\n";
  }
  template <typename... Args>
  void tell_of_item(std::string& events, std::string_view type, fmt::format_string<Args...> fields,
                    Args&&... args) {
    tell(events, type, R"("item_id":"{}","output_index":{},{})", item_id(pieces().back(), index()),
         index(), fmt::format(fields, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void tell_part(std::string& events, std::string_view type, fmt::format_string<Args...> fields,
                 Args&&... args) {
    tell_of_item(events, type, R"("content_index":0,{})",
                 fmt::format(fields, std::forward<Args>(args)...));
  }

  std::string item_id(const Piece& piece, std::size_t at) const {
    const char* prefix = piece.kind == Piece::Kind::reasoning ? "rs"
                         : piece.kind == Piece::Kind::content ? "msg"
                         : is_custom(piece)                   ? "ctc"
                                                              : "fc";
    return fmt::format("{}_{}_{}", prefix, id_, at);
  }

  static std::string part_json(const Piece& piece, std::string_view text) {
    return piece.kind == Piece::Kind::reasoning
               ? fmt::format(R"({{"type":"reasoning_text","text":{}}})", json_quoted(text))
               : fmt::format(R"({{"type":"output_text","text":{},"annotations":[],"logprobs":[]}})",
                             json_quoted(text));
  }

  std::string item_json(const Piece& piece, std::size_t at, Extent extent) const {
    const bool is_all = extent == Extent::all;
    auto json = fmt::format(R"({{"id":"{}","status":"{}",)", item_id(piece, at),
                            !is_all             ? kInProgress
                            : piece.is_complete ? kCompleted
                                                : kIncomplete);
    const auto text = is_all ? piece.text : std::string();
    const auto content = is_all ? part_json(piece, text) : std::string();
    const auto out = std::back_inserter(json);
    switch (piece.kind) {
      case Piece::Kind::reasoning:
        fmt::format_to(out, R"("type":"reasoning","summary":[],"content":[{}]}})", content);
        break;
      case Piece::Kind::content:
        fmt::format_to(out, R"("type":"message","role":"assistant","content":[{}]}})", content);
        break;
      case Piece::Kind::call: {
        const auto tool = client_tool(piece);
        fmt::format_to(out, R"("call_id":{},"name":{},)", json_quoted(piece.id),
                       json_quoted(tool.name));
        if (!tool.name_space.empty())
          fmt::format_to(out, R"("namespace":{},)", json_quoted(tool.name_space));
        if (tool.is_custom)
          fmt::format_to(out, R"("type":"custom_tool_call","input":{}}})",
                         json_quoted(is_all ? custom_input(text) : text));
        else
          fmt::format_to(out, R"("type":"function_call","arguments":{}}})", json_quoted(text));
        break;
      }
    }
    return json;
  }

  std::string usage_json(const Usage& usage) const {
    return fmt::format(
        R"({{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{},"cache_write_tokens":0}},)"
        R"("output_tokens":{},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}})",
        usage.n_prompt_tokens, usage.n_cached_tokens, usage.n_generated_tokens,
        n_reasoning_tokens(), usage.n_prompt_tokens + usage.n_generated_tokens);
  }

  std::string response_json(std::string_view status, const std::string& usage = {},
                            const std::string& error = "null") const {
    auto json = fmt::format(
        R"({}"status":"{}","completed_at":{},"error":{},"incomplete_details":{},"output":[)", head_,
        status, status == kCompleted ? fmt::to_string(std::time(nullptr)) : "null", error,
        status == kIncomplete ? R"({"reason":"max_output_tokens"})" : "null");
    for (std::size_t i = 0; i < pieces().size(); ++i) {
      if (i > 0) json += ',';
      json += item_json(pieces()[i], i, Extent::all);
    }
    fmt::format_to(std::back_inserter(json), R"(],"usage":{}}})", usage.empty() ? "null" : usage);
    return json;
  }

  std::string id_;
  std::map<std::string, ClientTool, std::less<>> tools_;
  std::string head_;  // of the response, to what changes in its course
  std::int64_t n_events_ = 0;
};

}  // namespace

std::unique_ptr<AnswerWriter> responses_writer(const std::string& model_name, const std::string& id,
                                               const ChatPlan& plan, ResponsesRequest request) {
  return std::make_unique<ResponsesWriter>(model_name, id, plan, std::move(request));
}

Prepared prepare_responses(const HttpRequest& http, Serving& serving) {
  auto request = read_responses_request(parse_body(http.body), serving);
  Fields fields(request.chat);
  const ChatPlan plan = plan_chat(fields, serving);
  auto writer = responses_writer(serving.model_name(), http.id, plan, std::move(request));
  std::vector<Stream> streams;
  streams.push_back(serving.service().submit(plan.request));
  return std::make_unique<LiveAnswer>(std::move(streams), std::move(writer), plan.streaming.is_on);
}

HttpReply stored_response_reply() {
  return {.status = 404,
          .body = error_body(404,
                             "responses are not stored here: each is told once, as the reply "
                             "to its request")};
}

}  // namespace nereid::server
