#include "server/access_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "server/json_text.h"

namespace nereid::server {

void AccessLog::write(const HttpRequest& request, int status, double seconds) const {
  if (!is_on_) return;
  const auto now =
      fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));
  std::string line;
  if (is_json_) {
    const auto add = [&](const char* name, std::string_view value) {
      line += fmt::format(",\"{}\":", name);
      append_json_string(line, value);
    };
    line = fmt::format(R"({{"time":"{:%Y-%m-%dT%H:%M:%SZ}","status":{},"seconds":{:.4f})", now,
                       status, seconds);
    add("client", request.client);
    add("method", request.method);
    add("path", request.path);
    add("id", request.id);
    add("traceparent", header_of(request.headers, "traceparent"));
    line += "}\n";
  } else {
    // Paths and methods are the clients': nothing in them ends the line.
    std::string what;
    append_json_string(what, request.method + " " + request.path);
    line = fmt::format("{:%Y-%m-%d %H:%M:%S} {} {} {} {:.4f} s {}\n", now, request.client, what,
                       status, seconds, request.id);
  }
  std::fputs(line.c_str(), stderr);
}

}  // namespace nereid::server
