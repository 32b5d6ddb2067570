#include "server/api/responses_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "server/api/chat_draft.h"
#include "server/api/generation_fields.h"

namespace nereid::server {

namespace {

std::string seen_name(std::string_view name_space, std::string_view name) {
  return name_space.empty() ? std::string(name) : fmt::format("{}__{}", name_space, name);
}

// What custom tools are shown to a model as: functions of one text.
OrderedJson custom_parameters() {
  return {{"type", "object"},
          {"properties", {{"input", {{"type", "string"}}}}},
          {"required", {"input"}},
          {"additionalProperties", false}};
}

class ResponsesReader {
 public:
  ResponsesReader(const OrderedJson& body, Serving& serving) : fields_(body), serving_(serving) {}

  ResponsesRequest read() {
    refuse_state();
    read_instructions();
    read_tool_choice();  // before the tools: it may name those that are meant
    if (const auto* tools = fields_.find("tools")) {
      read_tools(*tools, {}, "tools");
      request_.echo["tools"] = *tools;
    }
    read_input();
    read_answer();
    draft_.pass(fields_, {"model", "stream", "temperature", "top_p", "top_k", "min_p", "seed",
                          "stop", "presence_penalty", "frequency_penalty", "repetition_penalty",
                          "cache_salt", "parallel_tool_calls", "chat_template_kwargs"});
    fields_.ignore({"store", "include", "metadata", "truncation", "prompt_cache_key", "user",
                    "stream_options", "service_tier", "safety_identifier", "max_tool_calls",
                    "prompt_cache_retention", "prompt_cache_options", "client_metadata"});
    if (const auto* metadata = fields_.find("metadata")) request_.echo["metadata"] = *metadata;
    request_.echo["parallel_tool_calls"] = fields_.boolean("parallel_tool_calls").value_or(true);
    note_unknown(fields_, serving_);
    request_.chat = draft_.take();
    return std::move(request_);
  }

 private:
  // What stands on an earlier request, of which nothing is kept here.
  void refuse_state() {
    const auto refuse = [&](const char* name, const char* cure) {
      const auto* field = fields_.find(name);
      if (field != nullptr && *field != false)
        throw ApiError(400, fmt::format("\"{}\": {}", name, cure), name, "unsupported_parameter");
    };
    refuse("previous_response_id",
           "responses are not stored here; send the whole conversation as \"input\"");
    refuse("conversation", "conversations are not stored here; send all of it as \"input\"");
    refuse("prompt", "prompts are not stored here; send \"instructions\" and \"input\"");
    refuse("background", "responses are not stored here, so none can be fetched later");
    if (fields_.integer("top_logprobs", 0, 20).value_or(0) > 0)
      throw ApiError(400, "\"top_logprobs\": /v1/chat/completions tells log-probabilities",
                     "top_logprobs", "unsupported_parameter");
  }

  void read_instructions() {
    const auto instructions = fields_.text("instructions");
    if (!instructions) return;
    if (!instructions->empty()) draft_.add_text("system", *instructions);
    request_.echo["instructions"] = *instructions;
  }

  void read_tools(const OrderedJson& tools, std::string_view name_space, const std::string& where) {
    if (!tools.is_array()) fail_at(where, "a list of tools");
    for (std::size_t i = 0; i < tools.size(); ++i) {
      const auto& tool = tools[i];
      const auto place = fmt::format("{}[{}]", where, i);
      if (!tool.is_object()) fail_at(place, "an object with a \"type\"");
      const auto type = need_text_in(tool, "type", place);
      if (type == "namespace" && name_space.empty() && tool.contains("tools")) {
        read_tools(tool["tools"], need_text_in(tool, "name", place), place + ".tools");
      } else if (type == "function" || type == "custom") {
        read_tool(tool, type == "custom", name_space, place);
      } else {
        note_dropped(serving_, "tool", type);
      }
    }
  }

  void read_tool(const OrderedJson& tool, bool is_custom, std::string_view name_space,
                 const std::string& place) {
    const auto name = need_text_in(tool, "name", place);
    const auto seen = seen_name(name_space, name);
    if (!allowed_.empty() && !allowed_.contains(seen)) return;
    if (is_custom || !name_space.empty())
      request_.tools[seen] = {std::string(name_space), std::string(name), is_custom};
    std::string description(text_in(tool, "description"));
    if (!is_custom) {
      const auto parameters = tool.find("parameters");
      draft_.add_tool(seen, description, parameters == tool.end() ? OrderedJson() : *parameters);
      return;
    }
    // Here no grammar holds the text to its form: the model is told of it instead.
    const auto format = tool.find("format");
    if (format != tool.end() && format->is_object())
      if (const auto definition = text_in(*format, "definition"); !definition.empty())
        description.append("\n\n").append(definition);
    draft_.add_tool(seen, description, custom_parameters());
  }

  void read_tool_choice() {
    const auto* choice = fields_.find("tool_choice");
    if (choice == nullptr) return;
    request_.echo["tool_choice"] = *choice;
    if (choice->is_string()) {
      draft_["tool_choice"] = *choice;
      is_forced_ = *choice == "required";
      return;
    }
    if (!choice->is_object()) fields_.fail("tool_choice", "a string or an object");
    const auto type = text_in(*choice, "type");
    if (type == "function" || type == "custom") {
      draft_["tool_choice"] = {{"type", "function"},
                               {"function", {{"name", name_in(*choice, "tool_choice")}}}};
      is_forced_ = true;
    } else if (type == "allowed_tools") {
      const auto mode = need_text_in(*choice, "mode", "tool_choice");
      const auto tools = choice->find("tools");
      if (tools == choice->end() || !tools->is_array() || tools->empty())
        fail_at("tool_choice.tools", "a list of tools");
      for (const auto& tool : *tools)
        if (tool.is_object() && tool.contains("name"))
          allowed_.insert(name_in(tool, "tool_choice.tools"));
      draft_["tool_choice"] = mode;
      is_forced_ = mode == "required";
    } else {
      fields_.fail("tool_choice",
                   "\"none\", \"auto\", \"required\", or an object of the type \"function\", "
                   "\"custom\" or \"allowed_tools\"");
    }
  }

  static std::string name_in(const OrderedJson& object, const std::string& where) {
    return seen_name(text_in(object, "namespace"), need_text_in(object, "name", where));
  }

  void read_input() {
    const auto& input = fields_.need("input", "a string or a list of items");
    if (input.is_string()) {
      draft_.add_text("user", input.get_ref<const std::string&>());
      return;
    }
    if (!input.is_array()) fields_.fail("input", "a string or a list of items");
    for (std::size_t i = 0; i < input.size(); ++i) read_item(input[i], fmt::format("input[{}]", i));
    // Clients find out with an empty input whether a model is there.
    if (!draft_.has_messages()) draft_.add_text("user", "");
  }

  void read_item(const OrderedJson& item, const std::string& place) {
    if (!item.is_object()) fail_at(place, "an object");
    const auto type = item.contains("type") ? need_text_in(item, "type", place) : "message";
    if (type == "message") {
      read_message(item, place);
    } else if (type == "function_call") {
      draft_.add_call(need_text_in(item, "call_id", place), name_in(item, place),
                      need_text_in(item, "arguments", place));
    } else if (type == "custom_tool_call") {
      draft_.add_call(need_text_in(item, "call_id", place), name_in(item, place),
                      {{"input", need_text_in(item, "input", place)}});
    } else if (type == "function_call_output" || type == "custom_tool_call_output") {
      const auto output = item.find("output");
      if (output == item.end()) fail_at(place + ".output", "a string, or a list of parts");
      draft_.add_result(
          need_text_in(item, "call_id", place),
          text_of_parts(*output, {"input_text", "output_text", "text"}, place + ".output"));
    } else if (type == "additional_tools" && item.contains("tools")) {
      read_tools(item["tools"], {}, place + ".tools");
    } else if (type == "item_reference") {
      throw ApiError(400, fmt::format("{}: items are not stored here; send the item itself", place),
                     place, "unsupported_parameter");
    } else if (type != "reasoning") {
      note_dropped(serving_, "item", type);
    }
  }

  void read_message(const OrderedJson& item, const std::string& place) {
    auto role = need_text_in(item, "role", place);
    if (role == "developer") role = "system";
    if (role != "user" && role != "assistant" && role != "system")
      fail_at(place + ".role", "\"user\", \"assistant\", \"system\" or \"developer\"");
    const auto content = item.find("content");
    if (content == item.end()) fail_at(place + ".content", "a string, or a list of parts");
    draft_.add_text(role, text_of_parts(*content, {"input_text", "output_text", "text", "refusal"},
                                        place + ".content"));
  }

  void read_answer() {
    if (const auto n = fields_.integer("max_output_tokens", 1)) {
      draft_["max_completion_tokens"] = *n;
      request_.echo["max_output_tokens"] = *n;
    }
    request_.echo["text"] = {{"format", {{"type", "text"}}}};
    if (const auto* text = fields_.find("text")) {
      if (!text->is_object()) fields_.fail("text", "an object");
      Fields inner(*text, "text.");
      inner.ignore({"verbosity"});
      if (const auto* format = inner.find("format")) read_format(*format);
      note_unknown(inner, serving_);
    }
    if (const auto* reasoning = fields_.find("reasoning")) {
      if (!reasoning->is_object()) fields_.fail("reasoning", "an object");
      Fields inner(*reasoning, "reasoning.");
      inner.ignore({"summary", "generate_summary", "context"});
      const auto effort = inner.text("effort");
      note_unknown(inner, serving_);
      // What is held to a form from its first token on cannot think first.
      if (effort && !is_forced_) draft_["reasoning_effort"] = *effort;
      request_.echo["reasoning"] = {{"effort", effort ? OrderedJson(*effort) : OrderedJson()},
                                    {"summary", nullptr}};
    }
  }

  void read_format(const OrderedJson& format) {
    if (!format.is_object()) fail_at("text.format", "an object");
    request_.echo["text"] = {{"format", format}};
    const auto type = need_text_in(format, "type", "text.format");
    if (type == "json_schema") {
      const auto schema = format.find("schema");
      if (schema == format.end() || !schema->is_object())
        fail_at("text.format.schema", "a JSON schema");
      draft_["response_format"] = {{"type", type}, {"json_schema", {{"schema", *schema}}}};
    } else if (type == "json_object") {
      draft_["response_format"] = {{"type", type}};
    } else if (type != "text") {
      fail_at("text.format.type", "\"text\", \"json_object\" or \"json_schema\"");
    }
    is_forced_ |= type != "text";
  }

  Fields fields_;
  Serving& serving_;
  ChatDraft draft_;
  ResponsesRequest request_;
  std::set<std::string, std::less<>> allowed_;  // tools; empty: all
  bool is_forced_ = false;                      // to a call or a form
};

}  // namespace

ResponsesRequest read_responses_request(const OrderedJson& body, Serving& serving) {
  return ResponsesReader(body, serving).read();
}

}  // namespace nereid::server
