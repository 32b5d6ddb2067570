// Goal: POST /v1/responses: OpenAI's Responses API, without what it keeps on the server.
// Non-goal: how a request is understood (responses_request.h).
#pragma once

#include <memory>
#include <string>

#include "server/api/chat_plan.h"
#include "server/api/prepared.h"
#include "server/api/responses_request.h"
#include "server/http/message.h"
#include "server/serving.h"

namespace nereid::server {

// Throws ApiError and Error.
Prepared prepare_responses(const HttpRequest& http, Serving& serving);
// Of one that was answered earlier: there is none.
HttpReply stored_response_reply();

// `id`: the request's.
std::unique_ptr<AnswerWriter> responses_writer(const std::string& model_name, const std::string& id,
                                               const ChatPlan& plan, ResponsesRequest request);

}  // namespace nereid::server
