// What the writers of /v1/responses and /v1/messages make of an answer, however it is cut. The
// reference reads the events as a client does and puts the answer together from the deltas alone.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "chat/output/reasoning_format.h"
#include "chat/output/tool_format.h"
#include "null/fake_service.h"
#include "server/api/messages.h"
#include "server/api/messages_request.h"
#include "server/api/responses.h"

namespace nereid::server {
namespace {

using Json = nlohmann::json;

struct Event {
  std::string name;
  Json data;
};

std::vector<Event> events_of(const std::string& text) {
  std::vector<Event> events;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto line_end = text.find('\n', at);
    const auto end = text.find("\n\n", at);
    EXPECT_NE(end, std::string::npos);
    EXPECT_EQ(text.substr(at, 7), "event: ");
    EXPECT_EQ(text.substr(line_end + 1, 6), "data: ");
    events.push_back({text.substr(at + 7, line_end - at - 7),
                      Json::parse(text.substr(line_end + 7, end - line_end - 7))});
    EXPECT_EQ(events.back().name, events.back().data["type"]);
    at = end + 2;
  }
  return events;
}

ChatPlan plan_of(bool streams, bool thinks) {
  ChatPlan plan;
  plan.request.prompt_ids = {1, 2, 3, 4, 5};
  plan.streaming.is_on = streams;
  plan.output.tools = &chat::tool_format("hermes");
  plan.output.reasoning = &chat::reasoning_format("think");
  plan.output.is_reasoning_open = thinks;
  plan.output.seed = 7;
  return plan;
}

// What the engine gives of `text` in these pieces, a token each.
struct Told {
  std::string events, body;
};
Told tell(AnswerWriter& writer, const std::vector<std::string>& pieces, FinishReason reason,
          const std::string& stop = {}) {
  Told told;
  Completion completion{.prompt_ids = {1, 2, 3, 4, 5}, .n_cached_tokens = 2, .answers = {{}}};
  auto& answer = completion.answers.front();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::vector<TokenId> ids = {TokenId(i)};
    answer.ids.push_back(ids[0]);
    answer.text += pieces[i];
    writer.on_progress(0,
                       {.ids = ids,
                        .text = pieces[i],
                        .finish_reason = i + 1 == pieces.size() ? reason : FinishReason::none},
                       told.events);
  }
  answer.finish_reason = reason;
  answer.stop = stop;
  writer.finish({completion}, told.events);
  told.body = writer.body({completion});
  return told;
}

std::vector<std::string> cut(const std::string& text, std::mt19937& random) {
  std::vector<std::string> pieces;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t n = std::min<std::size_t>(1 + random() % 9, text.size() - at);
    pieces.push_back(text.substr(at, n));
    at += n;
  }
  return pieces;
}

constexpr const char* kCall =
    "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"K\\u00f6ln\", \"days\": 2}}\n"
    "</tool_call>";

// An answer drawn at random: perhaps reasoning, content, calls; perhaps cut before its end.
struct Drawn {
  std::string text;
  bool thinks = false;
  FinishReason reason = FinishReason::stop;
};
Drawn draw(std::mt19937& random) {
  Drawn drawn;
  drawn.thinks = random() % 2 == 0;
  if (drawn.thinks) drawn.text = "Let me \"see\".\nSo:\n</think>\n\n";
  if (random() % 3 != 0) drawn.text += "The answer\tis 42.";
  for (unsigned n = random() % 3; n > 0; --n) drawn.text.append("\n").append(kCall);
  if (drawn.text.empty()) drawn.text = "!";
  if (random() % 3 == 0) {
    drawn.text.resize(1 + random() % drawn.text.size());
    drawn.reason = FinishReason::length;
  }
  return drawn;
}

// Of the events of a stream the response that a client has in the end, by deltas; the last event's
// is for the comparison.
Json response_by_deltas(const std::vector<Event>& events) {
  Json items = Json::array();
  std::int64_t n = 0;
  for (const auto& [name, data] : events) {
    EXPECT_EQ(data["sequence_number"], n++);
    if (name == "response.output_item.added") {
      EXPECT_EQ(data["output_index"], items.size());
      EXPECT_EQ(data["item"]["status"], "in_progress");
      items.push_back(data["item"]);
      continue;
    }
    if (!data.contains("item_id")) {
      if (name == "response.output_item.done") {
        items.back()["status"] = data["item"]["status"];
        EXPECT_EQ(items.back(), data["item"]);
      }
      continue;
    }
    auto& item = items.at(data["output_index"].get<std::size_t>());
    EXPECT_EQ(item["id"], data["item_id"]);
    if (name == "response.content_part.added")
      item["content"].push_back(data["part"]);
    else if (name == "response.content_part.done")
      EXPECT_EQ(item["content"].at(0), data["part"]);
    else if (name == "response.output_text.delta" || name == "response.reasoning_text.delta")
      item["content"].at(0)["text"].get_ref<std::string&>() += data["delta"].get<std::string>();
    else if (name == "response.output_text.done" || name == "response.reasoning_text.done")
      EXPECT_EQ(item["content"].at(0)["text"], data["text"]);
    else if (name == "response.function_call_arguments.delta")
      item["arguments"].get_ref<std::string&>() += data["delta"].get<std::string>();
    else if (name == "response.function_call_arguments.done")
      EXPECT_EQ(item["arguments"], data["arguments"]);
    else if (name == "response.custom_tool_call_input.delta")
      item["input"].get_ref<std::string&>() += data["delta"].get<std::string>();
    else if (name == "response.custom_tool_call_input.done")
      EXPECT_EQ(item["input"], data["input"]);
    else
      ADD_FAILURE() << name;
  }
  return items;
}

Json without_times(Json response) {
  response.erase("created_at");
  response.erase("completed_at");
  return response;
}

TEST(ResponsesWriter, DeltasAndTheWholeSayTheSame) {
  const unsigned seed = std::random_device{}();
  std::mt19937 random(seed);
  for (int round = 0; round < 400; ++round) {
    const auto drawn = draw(random);
    SCOPED_TRACE(fmt::format("seed {} round {}: {}", seed, round, drawn.text));
    const bool is_custom = random() % 4 == 0;
    ResponsesRequest request;
    request.echo = OrderedJson::object();
    if (is_custom) request.tools["weather"] = {"sky", "weather_of", true};
    const auto writer = responses_writer("m", "r1", plan_of(true, drawn.thinks), request);
    const auto told = tell(*writer, cut(drawn.text, random), drawn.reason);
    const auto events = events_of(told.events);

    ASSERT_GE(events.size(), 3U);
    EXPECT_EQ(events[0].name, "response.created");
    EXPECT_EQ(events[1].name, "response.in_progress");
    const bool is_cut = drawn.reason == FinishReason::length;
    EXPECT_EQ(events.back().name, is_cut ? "response.incomplete" : "response.completed");
    const Json last = events.back().data["response"];
    EXPECT_EQ(response_by_deltas(events), last["output"]);
    EXPECT_EQ(last["status"], is_cut ? "incomplete" : "completed");

    // Another way of cutting, and no stream.
    const auto other = responses_writer("m", "r1", plan_of(false, drawn.thinks), request);
    const auto whole = tell(*other, {drawn.text}, drawn.reason);
    EXPECT_TRUE(whole.events.empty() || whole.events.starts_with("event: response."));
    EXPECT_EQ(without_times(Json::parse(whole.body))["output"], without_times(last)["output"]);
    EXPECT_EQ(without_times(Json::parse(told.body)), without_times(last));
  }
}

TEST(ResponsesWriter, SaysItemsInTheirOrder) {
  const auto writer = responses_writer("m", "r1", plan_of(false, true),
                                       {.chat = {}, .tools = {}, .echo = OrderedJson::object()});
  const auto told = tell(*writer, {"why", "</think>", "Look:", kCall}, FinishReason::stop);
  const auto response = Json::parse(told.body);
  ASSERT_EQ(response["output"].size(), 3U);
  EXPECT_EQ(response["output"][0]["content"][0]["text"], "why");
  EXPECT_EQ(response["output"][1]["content"][0]["text"], "Look:");
  EXPECT_EQ(response["output"][2]["name"], "weather");
  EXPECT_EQ(Json::parse(response["output"][2]["arguments"].get<std::string>())["days"], 2);
  EXPECT_EQ(response["usage"]["input_tokens"], 5);
  EXPECT_EQ(response["usage"]["input_tokens_details"]["cached_tokens"], 2);
  EXPECT_EQ(response["usage"]["output_tokens"], 4);
  EXPECT_EQ(response["usage"]["output_tokens_details"]["reasoning_tokens"], 1);
  EXPECT_EQ(response["usage"]["total_tokens"], 9);
}

TEST(ResponsesWriter, GivesClientsTheirToolsNames) {
  ResponsesRequest request{.chat = {}, .tools = {}, .echo = OrderedJson::object()};
  request.tools["fs__patch"] = {"fs", "patch", true};
  request.tools["fs__read"] = {"fs", "read", false};
  const auto writer = responses_writer("m", "r1", plan_of(false, false), request);
  const auto told = tell(
      *writer,
      {R"(<tool_call>{"name": "fs__patch", "arguments": {"input": "*** \"Begin\"\n"}}</tool_call>)",
       R"(<tool_call>{"name": "fs__read", "arguments": {"path": "a"}}</tool_call>)"},
      FinishReason::stop);
  const auto output = Json::parse(told.body)["output"];
  ASSERT_EQ(output.size(), 2U);
  EXPECT_EQ(output[0]["type"], "custom_tool_call");
  EXPECT_EQ(output[0]["name"], "patch");
  EXPECT_EQ(output[0]["namespace"], "fs");
  EXPECT_EQ(output[0]["input"], "*** \"Begin\"\n");
  EXPECT_EQ(output[1]["type"], "function_call");
  EXPECT_EQ(output[1]["name"], "read");
}

TEST(ResponsesWriter, FailsAsAResponse) {
  const auto writer = responses_writer("m", "r1", plan_of(true, false),
                                       {.chat = {}, .tools = {}, .echo = OrderedJson::object()});
  std::string events;
  writer->on_progress(0, {.text = "Hel"}, events);
  events += writer->error_event(ApiError(503, "going", {}, "draining"));
  const auto told = events_of(events);
  EXPECT_EQ(told.back().name, "response.failed");
  EXPECT_EQ(told.back().data["sequence_number"], told.size() - 1);
  EXPECT_EQ(told.back().data["response"]["status"], "failed");
  EXPECT_EQ(told.back().data["response"]["output"][0]["status"], "incomplete");
  EXPECT_EQ(told.back().data["response"]["error"]["message"], "going");
}

// The message that a client of /v1/messages has in the end.
Json message_by_deltas(const std::vector<Event>& events) {
  Json message;
  std::vector<std::string> inputs;
  bool is_open = false;
  for (const auto& [name, data] : events) {
    if (name == "message_start") {
      message = data["message"];
    } else if (name == "content_block_start") {
      EXPECT_FALSE(std::exchange(is_open, true));
      EXPECT_EQ(data["index"], message["content"].size());
      message["content"].push_back(data["content_block"]);
      inputs.emplace_back();
    } else if (name == "content_block_delta") {
      EXPECT_EQ(data["index"], message["content"].size() - 1);
      auto& block = message["content"].back();
      const auto& delta = data["delta"];
      const std::string type = delta["type"];
      if (type == "input_json_delta")
        inputs.back() += delta["partial_json"].get<std::string>();
      else
        for (const char* field : {"text", "thinking", "signature"})
          if (type == std::string(field) + "_delta")
            block[field].get_ref<std::string&>() += delta[field].get<std::string>();
    } else if (name == "content_block_stop") {
      EXPECT_TRUE(std::exchange(is_open, false));
      if (Json::accept(inputs.back()))
        message["content"].back()["input"] = Json::parse(inputs.back());
    } else if (name == "message_delta") {
      message.update(data["delta"]);
      message["usage"].update(data["usage"]);
    }
  }
  EXPECT_FALSE(is_open);
  return message;
}

TEST(MessagesWriter, DeltasAndTheWholeSayTheSame) {
  const unsigned seed = std::random_device{}();
  std::mt19937 random(seed);
  for (int round = 0; round < 400; ++round) {
    const auto drawn = draw(random);
    SCOPED_TRACE(fmt::format("seed {} round {}: {}", seed, round, drawn.text));
    const auto pieces = cut(drawn.text, random);
    const auto writer = messages_writer("m", "r1", plan_of(true, drawn.thinks));
    const auto events = events_of(tell(*writer, pieces, drawn.reason).events);
    EXPECT_EQ(events.front().name, "message_start");
    EXPECT_EQ(events.back().name, "message_stop");
    const auto other = messages_writer("m", "r1", plan_of(false, drawn.thinks));
    const auto whole = Json::parse(tell(*other, pieces, drawn.reason).body);
    EXPECT_EQ(message_by_deltas(events), whole);
    const auto uncut = messages_writer("m", "r1", plan_of(false, drawn.thinks));
    EXPECT_EQ(Json::parse(tell(*uncut, {drawn.text}, drawn.reason).body)["content"],
              whole["content"]);
    EXPECT_EQ(whole["stop_reason"] == "max_tokens", drawn.reason == FinishReason::length);
  }
}

TEST(MessagesWriter, SaysWhyItStopped) {
  const auto reason_of = [](const std::string& text, FinishReason reason, const std::string& stop) {
    const auto writer = messages_writer("m", "r1", plan_of(false, false));
    const auto message = Json::parse(tell(*writer, {text}, reason, stop).body);
    return std::pair(message["stop_reason"].get<std::string>(), message["stop_sequence"]);
  };
  EXPECT_EQ(reason_of("a", FinishReason::stop, ""), std::pair(std::string("end_turn"), Json()));
  EXPECT_EQ(reason_of("a", FinishReason::stop, "END"),
            std::pair(std::string("stop_sequence"), Json("END")));
  EXPECT_EQ(reason_of(kCall, FinishReason::stop, ""), std::pair(std::string("tool_use"), Json()));
  EXPECT_EQ(reason_of("a", FinishReason::length, ""), std::pair(std::string("max_tokens"), Json()));
  EXPECT_EQ(reason_of("a", FinishReason::time_limit, ""),
            std::pair(std::string("max_tokens"), Json()));
}

TEST(MessagesWriter, CountsCachedTokensApart) {
  const auto writer = messages_writer("m", "r1", plan_of(false, false));
  const auto usage = Json::parse(tell(*writer, {"a", "b"}, FinishReason::stop).body)["usage"];
  EXPECT_EQ(usage["input_tokens"], 3);
  EXPECT_EQ(usage["cache_read_input_tokens"], 2);
  EXPECT_EQ(usage["output_tokens"], 2);
}

TEST(MessagesErrors, AreInTheFormOfTheirApi) {
  const auto error = [](int status) {
    return Json::parse(messages_error_body(ApiError(status, "\"why\"")));
  };
  EXPECT_EQ(error(404), Json::parse(R"({"type": "error", "error":
      {"type": "not_found_error", "message": "\"why\""}})"));
  EXPECT_EQ(error(400)["error"]["type"], "invalid_request_error");
  EXPECT_EQ(error(401)["error"]["type"], "authentication_error");
  EXPECT_EQ(error(413)["error"]["type"], "request_too_large");
  EXPECT_EQ(error(500)["error"]["type"], "api_error");
  EXPECT_EQ(error(503)["error"]["type"], "overloaded_error");
  const auto writer = messages_writer("m", "r1", plan_of(true, false));
  EXPECT_EQ(Json::parse(writer->whole_error(ApiError(503, "later"))),
            Json::parse(messages_error_body(ApiError(503, "later"))));
  EXPECT_EQ(events_of(writer->error_event(ApiError(500, "why"))).front().name, "error");
}

Serving fake_serving() {
  return {ServerOptions{.model_names = {"m"}},
          engine::serve(std::make_shared<engine::FakeRunner>(engine::FakeOptions{}))};
}

std::string refusal_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return {};
}

TEST(ResponsesRequest, BecomesTheChatApis) {
  Serving serving = fake_serving();
  const auto request = read_responses_request(parse_body(R"({
    "model": "m", "instructions": "Be brief.", "max_output_tokens": 9, "temperature": 0.5,
    "store": true, "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low"},
    "tools": [{"type": "web_search"},
              {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true},
              {"type": "namespace", "name": "ns", "tools": [
                {"type": "custom", "name": "g", "format": {"type": "grammar", "definition": "G"}}]}],
    "input": [
      {"role": "developer", "content": [{"type": "input_text", "text": "In German."}]},
      {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"},
                                                      {"type": "input_text", "text": "b"}]},
      {"type": "reasoning", "id": "rs", "summary": []},
      {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c"}]},
      {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
      {"type": "custom_tool_call", "call_id": "2", "namespace": "ns", "name": "g", "input": "x"},
      {"type": "function_call_output", "call_id": "1", "output": "r"},
      {"type": "custom_tool_call_output", "call_id": "2",
       "output": [{"type": "input_text", "text": "s"}]}]})"),
                                              serving);
  EXPECT_EQ(Json(request.chat), Json::parse(R"({
    "model": "m", "max_completion_tokens": 9, "temperature": 0.5, "reasoning_effort": "low",
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
              {"type": "function", "function": {"name": "ns__g", "description": "\n\nG",
                "parameters": {"type": "object", "properties": {"input": {"type": "string"}},
                               "required": ["input"], "additionalProperties": false}}}],
    "messages": [
      {"role": "system", "content": "Be brief.\n\nIn German."},
      {"role": "user", "content": "a\nb"},
      {"role": "assistant", "content": "c", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "2", "type": "function", "function": {"name": "ns__g", "arguments": {"input": "x"}}}]},
      {"role": "tool", "tool_call_id": "1", "content": "r"},
      {"role": "tool", "tool_call_id": "2", "content": "s"}]})"));
  EXPECT_EQ(serving.unknown_fields().counts(),
            (std::map<std::string, std::int64_t>{{"tool: web_search", 1}}));
}

TEST(ResponsesRequest, TakesAllowedToolsOnly) {
  Serving serving = fake_serving();
  const auto request = read_responses_request(parse_body(R"({"input": "a",
    "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
    "tool_choice": {"type": "allowed_tools", "mode": "required",
                    "tools": [{"type": "function", "name": "g"}]}})"),
                                              serving);
  ASSERT_EQ(request.chat["tools"].size(), 1U);
  EXPECT_EQ(request.chat["tools"].front()["function"]["name"], "g");
  EXPECT_EQ(request.chat["tool_choice"], "required");
}

TEST(ResponsesRequest, SaysWhatIsWrong) {
  Serving serving = fake_serving();
  const auto refusal = [&](const char* body) {
    return refusal_of([&] { read_responses_request(parse_body(body), serving); });
  };
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", "\"input\" is missing"},
      {R"({"input": 5})", "\"input\""},
      {R"({"input": [5]})", "input[0]"},
      {R"({"input": "a", "previous_response_id": "resp_1"})", "not stored"},
      {R"({"input": "a", "background": true})", "not stored"},
      {R"({"input": "a", "max_output_tokens": 0})", "max_output_tokens"},
      {R"({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]})",
       "input[0].content[0] is of the type \"input_image\""},
      {R"({"input": [{"role": "robot", "content": "a"}]})", "input[0].role"},
      {R"({"input": [{"role": "user"}]})", "input[0].content"},
      {R"({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]})",
       "input[0].call_id"},
      {R"({"input": [{"type": "function_call_output", "call_id": "1"}]})", "input[0].output"},
      {R"({"input": [{"type": "item_reference", "id": "1"}]})", "not stored"},
      {R"({"input": "a", "tools": {}})", "tools"},
      {R"({"input": "a", "tools": [{"type": "function"}]})", "tools[0].name"},
      {R"({"input": "a", "tools": [{"type": "namespace", "name": "n", "tools": 1}]})",
       "tools[0].tools"},
      {R"({"input": "a", "tool_choice": {"type": "web_search"}})", "tool_choice"},
      {R"({"input": "a", "text": {"format": {"type": "xml"}}})", "text.format.type"},
      {R"({"input": "a", "text": {"format": {"type": "json_schema"}}})", "text.format.schema"},
      {R"({"input": "a", "reasoning": "much"})", "reasoning"},
  };
  for (const auto& [body, part] : cases)
    EXPECT_NE(refusal(body).find(part), std::string::npos) << body << " gave " << refusal(body);
}

TEST(MessagesRequest, BecomesTheChatApis) {
  Serving serving = fake_serving();
  const auto chat = read_messages_request(parse_body(R"({
    "model": "m", "max_tokens": 9, "stop_sequences": ["END"], "metadata": {"user_id": "u"},
    "thinking": {"type": "enabled", "budget_tokens": 1024}, "top_k": 3,
    "system": [{"type": "text", "text": "x-anthropic-billing-header: cch=1"},
               {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}},
              {"type": "web_search_20250305", "name": "web_search"}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
    "messages": [
      {"role": "user", "content": "a"},
      {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""},
        {"type": "text", "text": "c"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "2", "name": "f", "input": {}}]},
      {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "1", "content": "r"},
        {"type": "tool_result", "tool_use_id": "2", "content": [{"type": "text", "text": "s"}]},
        {"type": "text", "text": "and?"}]},
      {"role": "system", "content": "9 tokens left"}]})"),
                                          serving, true);
  EXPECT_EQ(Json(chat), Json::parse(R"({
    "model": "m", "max_tokens": 9, "stop": ["END"], "top_k": 3, "tool_choice": "auto",
    "parallel_tool_calls": false, "chat_template_kwargs": {"enable_thinking": true},
    "tools": [{"type": "function", "function": {"name": "f", "description": "d",
                                                "parameters": {"type": "object"}}}],
    "messages": [
      {"role": "system", "content": "Be brief."},
      {"role": "user", "content": "a"},
      {"role": "assistant", "content": "c", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
        {"id": "2", "type": "function", "function": {"name": "f", "arguments": {}}}]},
      {"role": "tool", "tool_call_id": "1", "content": "r"},
      {"role": "tool", "tool_call_id": "2", "content": "s"},
      {"role": "user", "content": "and?"},
      {"role": "system", "content": "9 tokens left"}]})"));
  EXPECT_EQ(serving.unknown_fields().counts(),
            (std::map<std::string, std::int64_t>{{"tool: web_search_20250305", 1}}));
}

TEST(MessagesRequest, GoesOnWithTheAssistantsText) {
  Serving serving = fake_serving();
  const auto chat =
      read_messages_request(parse_body(R"({"messages": [{"role": "user", "content": "a"},
                                  {"role": "assistant", "content": "The answer is ("}]})"),
                            serving, false);
  EXPECT_EQ(chat["continue_final_message"], true);
}

TEST(MessagesRequest, SaysWhatIsWrong) {
  Serving serving = fake_serving();
  const auto refusal = [&](const std::string& fields) {
    const auto body = fields.find("max_tokens") != std::string::npos
                          ? fields
                          : "{\"max_tokens\": 5, " + fields.substr(1);
    return refusal_of([&] { read_messages_request(parse_body(body), serving, true); });
  };
  const std::string a = R"("messages": [{"role": "user", "content": "a"}])";
  const std::pair<std::string, const char*> cases[] = {
      {R"({"max_tokens": null, )" + a + "}", "\"max_tokens\" is missing"},
      {R"({"max_tokens": 0, )" + a + "}", "max_tokens"},
      {R"({"messages": []})", "messages"},
      {R"({"messages": [5]})", "messages[0]"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]})",
       "messages[0].content[0] is of the type \"image\""},
      {R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})",
       "messages[0].content[0].text"},
      {R"({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]})", "tool_use_id"},
      {R"({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1",
           "content": [{"type": "image"}]}]}]})",
       "messages[0].content[0].content[0]"},
      {R"({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1",
           "name": "f", "input": "x"}]}]})",
       "messages[0].content[0].input"},
      {R"({"tools": [{"name": "f"}], )" + a + "}", "tools[0].input_schema"},
      {R"({"tool_choice": "auto", )" + a + "}", "tool_choice"},
      {R"({"tool_choice": {"type": "some"}, )" + a + "}", "tool_choice.type"},
      {R"({"thinking": {"type": "perhaps"}, )" + a + "}", "thinking.type"},
      {R"({"chat_template_kwargs": "x", "thinking": {"type": "disabled"}, )" + a + "}",
       "chat_template_kwargs"},
      {R"({"system": 5, )" + a + "}", "system"},
  };
  for (const auto& [body, part] : cases)
    EXPECT_NE(refusal(body).find(part), std::string::npos) << body << " gave " << refusal(body);
}

}  // namespace
}  // namespace nereid::server
