#include "chat/messages.h"

#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"

namespace nereid::chat {

namespace {

using OrderedJson = nlohmann::ordered_json;

void prepare_content(OrderedJson& message, const std::string& where, bool keep_parts) {
  const auto content = message.find("content");
  if (content == message.end() || content->is_null() || content->is_string()) return;
  if (!content->is_array())
    throw Error("{}.content is {}; expected a string or a list of parts", where,
                content->type_name());
  std::string text;
  bool is_first = true;
  for (const OrderedJson& part : *content) {
    const std::string type = part.is_object() ? part.value("type", "") : part.type_name();
    if (type != "text")
      throw Error("{}.content has a part of type '{}'; this model reads only parts of type 'text'",
                  where, type);
    const auto words = part.find("text");
    if (words == part.end() || !words->is_string())
      throw Error("{}.content has a part of type 'text' without a string 'text'", where);
    if (!is_first) text += '\n';
    is_first = false;
    text += words->get_ref<const std::string&>();
  }
  if (!keep_parts) *content = text;
}

// Clients send the arguments as a string of JSON; templates print them as an object.
void prepare_tool_calls(OrderedJson& message, const std::string& where) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || calls->is_null()) return;
  if (!calls->is_array())
    throw Error("{}.tool_calls is {}; expected a list", where, calls->type_name());
  for (OrderedJson& call : *calls) {
    if (!call.is_object() || !call.contains("function")) continue;
    OrderedJson& function = call["function"];
    if (!function.is_object() || !function.contains("arguments")) continue;
    OrderedJson& arguments = function["arguments"];
    if (!arguments.is_string()) continue;
    const auto& text = arguments.get_ref<const std::string&>();
    OrderedJson parsed = text.find_first_not_of(" \t\r\n") == std::string::npos
                             ? OrderedJson::object()
                             : OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object())
      throw Error("{}.tool_calls: the arguments of '{}' are no JSON object", where,
                  function.contains("name") && function["name"].is_string()
                      ? function["name"].get<std::string>().substr(0, 80)
                      : "a function");
    arguments = std::move(parsed);
  }
}

}  // namespace

OrderedJson prepare_messages(const OrderedJson& messages, bool keep_content_parts) {
  if (!messages.is_array())
    throw Error("messages is {}; expected a list of messages", messages.type_name());
  OrderedJson prepared = messages;
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    OrderedJson& message = prepared[i];
    const std::string where = fmt::format("messages[{}]", i);
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string())
      throw Error("{} has no role; expected an object with a string 'role'", where);
    prepare_content(message, where, keep_content_parts);
    prepare_tool_calls(message, where);
  }
  return prepared;
}

}  // namespace nereid::chat
