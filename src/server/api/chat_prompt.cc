#include "server/api/chat_prompt.h"

#include <fmt/format.h>

#include "base/error.h"

namespace nereid::server {

namespace {

constexpr std::size_t kMaxMessages = 16'384;
constexpr std::size_t kMaxTools = 1'024;

void check_message(const OrderedJson& message, std::size_t index) {
  const auto fail = [&](std::string_view what) {
    throw ApiError(400, fmt::format("messages[{}]: {}", index, what),
                   fmt::format("messages[{}]", index), "invalid_value");
  };
  if (!message.is_object()) fail("expected an object with a role and a content");
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string()) fail("expected a \"role\" that is a string");
  const auto content = message.find("content");
  const bool has_calls = message.contains("tool_calls") && !message["tool_calls"].is_null();
  if (content == message.end() || content->is_null()) {
    if (!has_calls) fail("expected a \"content\"");
  } else if (!content->is_string() && !content->is_array()) {
    fail("\"content\": expected a string, or a list of parts");
  }
  if (!has_calls) return;
  const auto& calls = message["tool_calls"];
  if (!calls.is_array()) fail("\"tool_calls\": expected a list");
  for (const auto& call : calls)
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object() ||
        !call["function"].contains("name") || !call["function"]["name"].is_string())
      fail("\"tool_calls\": expected a function with a name in each");
}

void check_tools(Fields& fields, const OrderedJson& tools) {
  if (!tools.is_array() || tools.size() > kMaxTools)
    fields.fail("tools", fmt::format("a list of at most {} tools", kMaxTools));
  for (const auto& tool : tools)
    if (!tool.is_object() || tool.value("type", "") != "function" || !tool.contains("function") ||
        !tool["function"].is_object() || !tool["function"].contains("name") ||
        !tool["function"]["name"].is_string())
      fields.fail("tools", "tools of the type \"function\", each with a function that has a name");
}

}  // namespace

ChatMessages read_chat_messages(Fields& fields) {
  ChatMessages chat;
  chat.messages = fields.need("messages", "a list of messages");
  if (!chat.messages.is_array() || chat.messages.empty() || chat.messages.size() > kMaxMessages)
    fields.fail("messages", fmt::format("a list of 1 to {} messages", kMaxMessages));
  for (std::size_t i = 0; i < chat.messages.size(); ++i) {
    check_message(chat.messages[i], i);
    // What OpenAI calls the system's role of late; templates know the older name.
    if (chat.messages[i]["role"] == "developer") chat.messages[i]["role"] = "system";
  }
  if (const auto* tools = fields.find("tools"); tools != nullptr && !tools->empty()) {
    check_tools(fields, *tools);
    chat.tools = *tools;
  }
  if (const auto* documents = fields.find("documents")) {
    if (!documents->is_array()) fields.fail("documents", "a list");
    chat.documents = *documents;
  }
  if (const auto* kwargs = fields.find("chat_template_kwargs")) {
    if (!kwargs->is_object()) fields.fail("chat_template_kwargs", "an object");
    chat.kwargs = *kwargs;
  }
  if (const auto effort = fields.text("reasoning_effort")) {
    chat.kwargs["reasoning_effort"] = *effort;
    if (!chat.kwargs.contains("enable_thinking"))
      chat.kwargs["enable_thinking"] = *effort != "none";
  }
  chat.continue_final_message = fields.boolean("continue_final_message").value_or(false);
  chat.add_generation_prompt =
      fields.boolean("add_generation_prompt").value_or(!chat.continue_final_message);
  if (chat.continue_final_message && chat.add_generation_prompt)
    throw ApiError(400,
                   "\"continue_final_message\" goes on with the last message, and "
                   "\"add_generation_prompt\" begins another; send one of them",
                   "continue_final_message", "invalid_value");
  if (fields.find("chat_template") != nullptr)
    throw ApiError(400,
                   "\"chat_template\": a request brings no template of its own here; start the "
                   "server with --chat-template",
                   "chat_template", "unsupported_parameter");
  return chat;
}

ChatPrompt chat_prompt(const ChatMessages& chat, const Serving& serving) {
  const auto rendered = serving.chat_template().render(
      {.messages = chat.messages,
       .tools = chat.tools.is_null() ? nullptr : &chat.tools,
       .documents = chat.documents.is_null() ? nullptr : &chat.documents,
       .kwargs = &chat.kwargs,
       .add_generation_prompt = chat.add_generation_prompt,
       .continue_final_message = chat.continue_final_message});
  ChatPrompt prompt{.text = rendered.text,
                    .ids = serving.tokenizer().encode_prompt(rendered.text, rendered.input_ranges)};
  if (prompt.ids.empty())
    throw ApiError(400, "the chat template made an empty prompt of these messages", "messages");
  return prompt;
}

}  // namespace nereid::server
