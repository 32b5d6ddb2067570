// Goal: the small questions: which model, how far it is, what a text is in tokens, what a chat is
// as a prompt. None of them computes on the device.
#pragma once

#include "server/http/message.h"
#include "server/serving.h"

namespace nereid::server {

HttpReply models_reply(const Serving& serving);
HttpReply model_reply(const Serving& serving, std::string_view name);  // ApiError 404
// 200 once requests are answered; 503 with the stage while the model opens, drains or has failed.
HttpReply health_reply(const Serving& serving);
HttpReply version_reply(const Serving& serving);

// Throw ApiError and Error.
HttpReply tokenize_reply(const HttpRequest& http, Serving& serving);
HttpReply detokenize_reply(const HttpRequest& http, Serving& serving);
HttpReply apply_template_reply(const HttpRequest& http, Serving& serving);

}  // namespace nereid::server
