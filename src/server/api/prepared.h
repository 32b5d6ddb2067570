// Goal: what a handler makes of a request: a reply, or an answer that is still to come.
#pragma once

#include <memory>
#include <variant>

#include "server/http/message.h"
#include "server/live_answer.h"

namespace nereid::server {

using Prepared = std::variant<HttpReply, std::unique_ptr<LiveAnswer>>;

}  // namespace nereid::server
