// Goal: POST /v1/messages: Anthropic's Messages API, and how many tokens a request of it has.
// Non-goal: how a request is understood (messages_request.h).
#pragma once

#include <memory>
#include <string>

#include "server/api/chat_plan.h"
#include "server/api/prepared.h"
#include "server/http/message.h"
#include "server/serving.h"

namespace nereid::server {

// Both throw ApiError and Error.
Prepared prepare_messages(const HttpRequest& http, Serving& serving);
HttpReply count_tokens_reply(const HttpRequest& http, Serving& serving);

// {"type": "error", "error": {"type", "message"}}
std::string messages_error_body(const ApiError& error);

// `id`: the request's.
std::unique_ptr<AnswerWriter> messages_writer(const std::string& model_name, const std::string& id,
                                              const ChatPlan& plan);

}  // namespace nereid::server
