// Goal: what a chat API asks for, as one request to the engine and the way its answer is read: the
// same for all APIs that have messages.
// Non-goal: how the answer is written (chat_writer.h and its kinds).
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "chat/output/output_parser.h"
#include "nereid/request.h"
#include "server/api/generation_fields.h"
#include "server/fields.h"
#include "server/serving.h"

namespace nereid::server {

struct ChatPlan {
  Request request;  // with the prompt's ids
  Streaming streaming;
  chat::OutputOptions output;
  bool has_prompt_logprobs = false;
};

// Of the chat API's fields; other APIs translate theirs first. Throws ApiError and Error.
ChatPlan plan_chat(Fields& fields, Serving& serving);

}  // namespace nereid::server
