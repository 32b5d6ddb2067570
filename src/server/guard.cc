#include "server/guard.h"

#include <algorithm>

#include "server/http/text.h"

namespace nereid::server {

std::string_view host_name(std::string_view host) {
  if (host.starts_with('[')) {
    const auto end = host.find(']');
    return end == std::string_view::npos ? host : host.substr(0, end + 1);
  }
  return host.substr(0, host.find(':'));
}

bool is_loopback_name(std::string_view name) {
  if (equal_ignoring_case(name, "localhost") || name == "[::1]" || name == "::1") return true;
  return name.starts_with("127.") && std::ranges::count(name, '.') == 3 &&
         name.find_first_not_of("0123456789.") == std::string_view::npos;
}

Guard::Guard(const ServerOptions& options)
    : options_(options), is_on_loopback_(is_loopback_name(options.host)) {}

bool Guard::is_own_name(std::string_view host) const {
  const auto name = host_name(host);
  const auto is_it = [&](const std::string& allowed) {
    return allowed == "*" || equal_ignoring_case(allowed, name);
  };
  if (std::ranges::any_of(options_.allowed_hosts, is_it)) return true;
  // A page elsewhere may have its own name lead here; it cannot have it lead here as localhost.
  if (is_on_loopback_) return is_loopback_name(name);
  return options_.allowed_hosts.empty() || is_loopback_name(name);
}

bool Guard::is_allowed_origin(std::string_view origin, std::string_view host) const {
  for (const auto& allowed : options_.cors_origins)
    if (allowed == "*" || equal_ignoring_case(allowed, origin)) return true;
  const auto scheme_end = origin.find("://");
  if (scheme_end == std::string_view::npos) return false;
  const auto authority = origin.substr(scheme_end + 3);
  if (equal_ignoring_case(authority, host)) return true;  // this server's own page
  return is_on_loopback_ && is_loopback_name(host_name(authority));
}

bool Guard::has_key(const HttpRequest& request) const {
  std::string_view given = header_of(request.headers, "x-api-key");
  constexpr std::string_view kBearer = "Bearer ";
  if (const auto authorization = header_of(request.headers, "Authorization");
      authorization.size() > kBearer.size() &&
      equal_ignoring_case(authorization.substr(0, kBearer.size()), kBearer))
    given = authorization.substr(kBearer.size());
  bool is_known = false;
  for (const auto& key : options_.api_keys) is_known |= equal_in_constant_time(given, key);
  return is_known;
}

std::optional<ApiError> Guard::refuse(const HttpRequest& request, bool needs_key) const {
  const auto host = header_of(request.headers, "Host");
  if (!is_own_name(host))
    return ApiError(403,
                    "this server is not known by that Host; name it with --allowed-host if it is");
  const auto origin = header_of(request.headers, "Origin");
  if (!origin.empty() && !is_allowed_origin(origin, host))
    return ApiError(403, "pages of that Origin may not use this server; --cors-origin allows one");
  if (needs_key && !options_.api_keys.empty() && !has_key(request))
    return ApiError(401,
                    "expected one of this server's API keys, as \"Authorization: Bearer KEY\" or "
                    "\"x-api-key: KEY\"");
  return std::nullopt;
}

HttpReply Guard::preflight_reply(const HttpRequest& request) const {
  HttpReply reply{.status = 204, .content_type = "text/plain"};
  reply.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
  const auto asked = header_of(request.headers, "Access-Control-Request-Headers");
  reply.headers.emplace_back("Access-Control-Allow-Headers",
                             asked.empty() ? "Authorization, Content-Type" : std::string(asked));
  reply.headers.emplace_back("Access-Control-Max-Age", "600");
  return reply;
}

Headers Guard::cors_headers(const HttpRequest& request) const {
  const auto origin = header_of(request.headers, "Origin");
  if (origin.empty() || !is_allowed_origin(origin, header_of(request.headers, "Host"))) return {};
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Access-Control-Expose-Headers", "X-Request-Id, Retry-After"},
          {"Vary", "Origin"}};
}

}  // namespace nereid::server
