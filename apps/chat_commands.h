// Goal: what a line that begins with `/` does in a chat: a table of commands.
#pragma once

#include <string>
#include <string_view>

#include "apps/chat_session.h"

namespace nereid::apps {

inline bool is_chat_command(std::string_view message) { return message.starts_with('/'); }

// False where the chat is to end. An Error names the commands, or what one needs.
bool run_chat_command(ChatSession& session, const std::string& message);

}  // namespace nereid::apps
