// Goal: what POST /v1/messages asks for, in the chat API's fields.
// Non-goal: the answer (messages.cc).
#pragma once

#include "server/fields.h"
#include "server/serving.h"

namespace nereid::server {

// As plan_chat() reads it. `needs_length`: "max_tokens" has to be there. Throws ApiError.
OrderedJson read_messages_request(const OrderedJson& body, Serving& serving, bool needs_length);

}  // namespace nereid::server
