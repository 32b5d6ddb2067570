#include "server/api/chat_draft.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace nereid::server {

void ChatDraft::add_text(std::string_view role, std::string_view text) {
  if (messages_.size() == 1 && role == "system" && messages_.front()["role"] == "system") {
    messages_.front()["content"].get_ref<std::string&>().append("\n\n").append(text);
    return;
  }
  messages_.push_back({{"role", role}, {"content", text}});
}

void ChatDraft::add_call(std::string_view id, std::string_view name, const OrderedJson& arguments) {
  if (messages_.empty() || messages_.back()["role"] != "assistant") add_text("assistant", "");
  messages_.back()["tool_calls"].push_back(
      {{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}});
}

void ChatDraft::add_result(std::string_view call_id, std::string_view text) {
  messages_.push_back({{"role", "tool"}, {"tool_call_id", call_id}, {"content", text}});
}

void ChatDraft::add_tool(std::string_view name, std::string_view description,
                         const OrderedJson& parameters) {
  OrderedJson function = {{"name", name}};
  if (!description.empty()) function["description"] = description;
  if (!parameters.is_null()) function["parameters"] = parameters;
  tools_.push_back({{"type", "function"}, {"function", std::move(function)}});
}

void ChatDraft::pass(Fields& fields, std::initializer_list<std::string_view> names) {
  for (const auto name : names)
    if (const auto* field = fields.find(name)) json_[std::string(name)] = *field;
}

bool ChatDraft::ends_with_text_of(std::string_view role) const {
  return !messages_.empty() && messages_.back()["role"] == role &&
         !messages_.back().contains("tool_calls");
}

OrderedJson ChatDraft::take() {
  json_["messages"] = std::move(messages_);
  if (has_tools()) json_["tools"] = std::move(tools_);
  return std::move(json_);
}

void fail_at(const std::string& where, std::string_view expected) {
  throw ApiError(400, fmt::format("{}: expected {}", where, expected), where, "invalid_value");
}

std::string_view text_in(const OrderedJson& object, const char* name) {
  const auto field = object.find(name);
  return field == object.end() || !field->is_string() ? std::string_view()
                                                      : field->get_ref<const std::string&>();
}

std::string_view need_text_in(const OrderedJson& object, const char* name,
                              const std::string& where) {
  const auto field = object.find(name);
  if (field == object.end() || !field->is_string())
    fail_at(fmt::format("{}.{}", where, name), "a string");
  return field->get_ref<const std::string&>();
}

std::string text_of_parts(const OrderedJson& content, std::initializer_list<std::string_view> types,
                          const std::string& where) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) fail_at(where, "a string, or a list of parts");
  std::string text;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const auto place = fmt::format("{}[{}]", where, i);
    if (!content[i].is_object()) fail_at(place, "an object with a type and a text");
    const auto type = need_text_in(content[i], "type", place);
    if (std::ranges::find(types, type) == types.end())
      throw ApiError(400,
                     fmt::format("{} is of the type \"{:.64}\"; this model reads text only: \"{}\"",
                                 place, type, fmt::join(types, "\", \"")),
                     place, "unsupported_parameter");
    if (i > 0) text += '\n';
    text += need_text_in(content[i], type == "refusal" ? "refusal" : "text", place);
  }
  return text;
}

void note_dropped(Serving& serving, std::string_view what, std::string_view type) {
  if (serving.unknown_fields().count(fmt::format("{}: {}", what, type)))
    fmt::print(stderr, "nereid: a request has a {} of the type {:?}, which means nothing here\n",
               what, type.substr(0, 64));
}

}  // namespace nereid::server
