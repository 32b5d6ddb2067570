// Goal: POST /v1/chat/completions: an answer to messages, with tools, reasoning told apart, and
// log- probabilities. Non-goal: which prompt that is (chat_plan.h).
#pragma once

#include "server/api/prepared.h"
#include "server/http/message.h"
#include "server/serving.h"

namespace nereid::server {

// Throws ApiError and Error.
Prepared prepare_chat(const HttpRequest& http, Serving& serving);

}  // namespace nereid::server
