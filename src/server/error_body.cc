#include "server/error_body.h"

#include <utility>

#include "base/error.h"
#include "server/json_text.h"

namespace nereid::server {

namespace {

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::context_length:
      return 400;
    case ErrorCode::not_found:
      return 404;
    case ErrorCode::overloaded:
    case ErrorCode::draining:
      return 503;
    case ErrorCode::device:
    case ErrorCode::internal:
      return 500;
  }
  NEREID_UNREACHABLE("error code {}", int(code));
}

std::string code_of(ErrorCode code) {
  if (code == ErrorCode::context_length)
    return "context_length_exceeded";  // as OpenAI's clients know it
  return std::string(error_code_name(code));
}

void append_or_null(std::string& out, std::string_view text) {
  if (text.empty())
    out += "null";
  else
    append_json_string(out, text);
}

}  // namespace

ApiError::ApiError(const Error& error)
    : ApiError(status_of(error.code()), error.what(), {}, code_of(error.code())) {}

std::string_view error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

std::string error_body(const ApiError& error) {
  std::string body = R"({"error":{"message":)";
  append_json_string(body, error.what());
  body += R"(,"type":)";
  append_json_string(body, error_type(error.status));
  body += R"(,"param":)";
  append_or_null(body, error.param);
  body += R"(,"code":)";
  append_or_null(body, error.code);
  body += "}}";
  return body;
}

HttpReply error_reply(const ApiError& error, std::string body) {
  HttpReply reply{.status = error.status, .body = std::move(body)};
  if (error.status == 503 || error.status == 429) reply.headers.emplace_back("Retry-After", "1");
  if (error.status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  return reply;
}

std::string error_body(int status, std::string_view message) {
  return error_body(ApiError(status, std::string(message)));
}

}  // namespace nereid::server
