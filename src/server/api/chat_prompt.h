// Goal: messages, tools and what goes with them as a prompt.
// Non-goal: what the answer is to be (generation_fields.h, chat.h).
#pragma once

#include <string>
#include <vector>

#include "nereid/request.h"
#include "server/fields.h"
#include "server/serving.h"

namespace nereid::server {

// What an API's request comes to, as the chat API has it.
struct ChatMessages {
  OrderedJson messages = OrderedJson::array();
  OrderedJson tools = nullptr;      // a list, or null
  OrderedJson documents = nullptr;  // likewise
  OrderedJson kwargs = OrderedJson::object();
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

struct ChatPrompt {
  std::string text;
  std::vector<TokenId> ids;
};

// The chat API's fields: "messages", "tools", "chat_template_kwargs", ...
ChatMessages read_chat_messages(Fields& fields);

// Rendered by the model's template. No text of a caller's becomes a special token.
ChatPrompt chat_prompt(const ChatMessages& messages, const Serving& serving);

inline ChatPrompt read_chat_prompt(Fields& fields, const Serving& serving) {
  return chat_prompt(read_chat_messages(fields), serving);
}

}  // namespace nereid::server
