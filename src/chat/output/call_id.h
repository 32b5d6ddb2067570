// Goal: ids of tool calls as clients and templates expect them, the same for the same seed.
// Non-goal: secrets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "chat/output/tool_format.h"

namespace nereid::chat {

// Of the call `index` of the answer that was given `seed`.
std::string make_call_id(const ToolFormat& format, std::uint64_t seed, std::size_t index);

}  // namespace nereid::chat
