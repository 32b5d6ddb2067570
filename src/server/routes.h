// Goal: the one table of what this server answers.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "server/api/prepared.h"
#include "server/error_body.h"
#include "server/http/message.h"
#include "server/metrics_text.h"
#include "server/serving.h"

namespace nereid::server {

struct Route {
  std::string_view method;  // GET answers HEAD too
  std::string_view path;    // a last "*" stands for any rest
  bool needs_key = true;
  // One of these. What is quick is answered on the I/O thread, also while all else is busy; what
  // reads a body is prepared on a worker.
  HttpReply (*reply)(const HttpRequest&, Serving&, const WireMetrics&) = nullptr;
  Prepared (*prepare)(const HttpRequest&, Serving&) = nullptr;
  // The form of its errors.
  std::string (*write_error)(const ApiError&) = error_body;
};

std::span<const Route> routes();

}  // namespace nereid::server
