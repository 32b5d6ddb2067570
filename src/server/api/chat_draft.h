// Goal: a conversation in the chat API's form, put together piece by piece by the APIs that have
// another one.
// Non-goal: checking what plan_chat() checks.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/fields.h"
#include "server/serving.h"

namespace nereid::server {

class ChatDraft {
 public:
  // Instructions at the beginning are one message, however many they came as: many templates know
  // one only. Later ones stay where they are, so that what was before them is found in the cache.
  void add_text(std::string_view role, std::string_view text);
  // Of the assistant's message at the end, or a new one.
  void add_call(std::string_view id, std::string_view name, const OrderedJson& arguments);
  void add_result(std::string_view call_id, std::string_view text);

  void add_tool(std::string_view name, std::string_view description, const OrderedJson& parameters);
  // The same field by the same name and meaning, as it is.
  void pass(Fields& fields, std::initializer_list<std::string_view> names);

  bool has_messages() const { return !messages_.empty(); }
  bool has_tools() const { return !tools_.empty(); }
  bool ends_with_text_of(std::string_view role) const;

  OrderedJson& operator[](const char* field) { return json_[field]; }
  // The whole request.
  OrderedJson take();

 private:
  OrderedJson messages_ = OrderedJson::array();
  OrderedJson tools_ = OrderedJson::array();
  OrderedJson json_ = OrderedJson::object();
};

// The text of a list of parts {"type", "text"}, or of a string. `types`: of parts that are text; an
// ApiError names the place and the type of another.
std::string text_of_parts(const OrderedJson& content, std::initializer_list<std::string_view> types,
                          const std::string& where);

// A text in an object, as far as there is one.
std::string_view text_in(const OrderedJson& object, const char* name);
// The same where it has to be there.
std::string_view need_text_in(const OrderedJson& object, const char* name,
                              const std::string& where);

// Counted, and logged the first time: tools and items that mean nothing here.
void note_dropped(Serving& serving, std::string_view what, std::string_view type);

[[noreturn]] void fail_at(const std::string& where, std::string_view expected);

}  // namespace nereid::server
