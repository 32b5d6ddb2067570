// Goal: what went wrong, in the form that OpenAI's clients read.
// Non-goal: which errors there are.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "nereid/error.h"
#include "server/http/message.h"

namespace nereid::server {

// An error that a client is to be told of.
struct ApiError : std::runtime_error {
  // `param`: the field at fault; `code`: for programs; both may be empty.
  ApiError(int the_status, const std::string& message, std::string the_param = {},
           std::string the_code = {})
      : std::runtime_error(message),
        status(the_status),
        param(std::move(the_param)),
        code(std::move(the_code)) {}
  explicit ApiError(const Error& error);

  int status;
  std::string param, code;
};

// {"error": {"message", "type", "param", "code"}}
std::string error_body(const ApiError& error);
std::string error_body(int status, std::string_view message);

// The reply with this body: an overload says when to come again, a missing key which kind is meant.
HttpReply error_reply(const ApiError& error, std::string body);

// "invalid_request_error", "server_error", ...
std::string_view error_type(int status);

}  // namespace nereid::server
