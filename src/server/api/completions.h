// Goal: POST /v1/completions: text that goes on from a prompt, or from each of several.
// Non-goal: messages (chat.h).
#pragma once

#include "server/api/prepared.h"
#include "server/http/message.h"
#include "server/serving.h"

namespace nereid::server {

// Prompts as a string, a list of strings, a list of ids or a list of lists of ids; with a suffix
// where the model has the tokens for it. Throws ApiError and Error.
Prepared prepare_completions(const HttpRequest& http, Serving& serving);

}  // namespace nereid::server
