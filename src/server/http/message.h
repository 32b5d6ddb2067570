// Goal: one HTTP request as a handler sees it, and what it may answer at once.
// Non-goal: how either travels (connection.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nereid::server {

using Headers = std::vector<std::pair<std::string, std::string>>;

// The first header of that name, in whatever case; empty where there is none.
std::string_view header_of(const Headers& headers, std::string_view name);

struct HttpRequest {
  std::string id = {};      // the server's own, or the client's X-Request-Id
  std::string client = {};  // "127.0.0.1:40312"
  std::string method = {};
  std::string path = {};  // "/v1/models", without the query
  Headers headers = {};
  std::string body = {};
};

struct HttpReply {
  int status = 200;
  std::string body = {};
  std::string content_type = "application/json";
  Headers headers = {};
};

}  // namespace nereid::server
