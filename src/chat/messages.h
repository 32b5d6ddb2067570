// Goal: a request's messages as templates expect them: arguments of tool calls as objects, content
// as one string unless the template reads its parts.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace nereid::chat {

// An Error names the message and what it holds that a text model cannot read.
nlohmann::ordered_json prepare_messages(const nlohmann::ordered_json& messages,
                                        bool keep_content_parts);

}  // namespace nereid::chat
