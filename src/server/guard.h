// Goal: who may use this server: callers with a key, pages of origins that are allowed, names that
// are its own.
// Non-goal: rates and quotas; encryption (a proxy's).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/error_body.h"
#include "server/http/message.h"
#include "server/serving.h"

namespace nereid::server {

class Guard {
 public:
  explicit Guard(const ServerOptions& options);

  // Why the request is refused, before anybody looks at what it asks.
  std::optional<ApiError> refuse(const HttpRequest& request, bool needs_key) const;
  // The answer to a browser's question whether a page may ask.
  HttpReply preflight_reply(const HttpRequest& request) const;
  // Of any reply to it.
  Headers cors_headers(const HttpRequest& request) const;

 private:
  bool is_own_name(std::string_view host) const;
  bool is_allowed_origin(std::string_view origin, std::string_view host) const;
  bool has_key(const HttpRequest& request) const;

  const ServerOptions& options_;
  bool is_on_loopback_;
};

// "example.org" of "example.org:8000", "[::1]" of "[::1]:8000".
std::string_view host_name(std::string_view host);
// This machine by any of its own names: localhost, 127.x.x.x, ::1.
bool is_loopback_name(std::string_view name);

}  // namespace nereid::server
