#include "server/routes.h"

#include <array>

#include "server/api/chat.h"
#include "server/api/completions.h"
#include "server/api/messages.h"
#include "server/api/models.h"
#include "server/api/responses.h"
#include "server/error_body.h"
#include "server/page.h"

namespace nereid::server {

namespace {

constexpr std::string_view kModelPath = "/v1/models/";

HttpReply embeddings_reply(const HttpRequest&, Serving&, const WireMetrics&) {
  return {
      .status = 501,
      .body = error_body(501, "this server generates text; its models are not trained to embed")};
}

constexpr std::array kRoutes{
    Route{.method = "GET",
          .path = "/",
          .needs_key = false,
          .reply = [](const HttpRequest&, Serving&, const WireMetrics&) { return page_reply(); }},
    Route{.method = "GET",
          .path = "/health",
          .needs_key = false,
          .reply = [](const HttpRequest&, Serving& serving,
                      const WireMetrics&) { return health_reply(serving); }},
    Route{.method = "GET",
          .path = "/version",
          .needs_key = false,
          .reply = [](const HttpRequest&, Serving& serving,
                      const WireMetrics&) { return version_reply(serving); }},
    Route{.method = "GET",
          .path = "/metrics",
          .reply =
              [](const HttpRequest&, Serving& serving, const WireMetrics& wire) {
                return HttpReply{.body = metrics_text(serving, wire),
                                 .content_type = "text/plain; version=0.0.4; charset=utf-8"};
              }},
    Route{.method = "GET",
          .path = "/v1/models",
          .reply = [](const HttpRequest&, Serving& serving,
                      const WireMetrics&) { return models_reply(serving); }},
    Route{.method = "GET",
          .path = "/v1/models/*",
          .reply =
              [](const HttpRequest& http, Serving& serving, const WireMetrics&) {
                return model_reply(serving, std::string_view(http.path).substr(kModelPath.size()));
              }},
    Route{.method = "POST", .path = "/v1/embeddings", .reply = embeddings_reply},
    Route{.method = "POST", .path = "/v1/completions", .prepare = prepare_completions},
    Route{.method = "POST", .path = "/v1/chat/completions", .prepare = prepare_chat},
    Route{.method = "POST", .path = "/v1/responses", .prepare = prepare_responses},
    Route{.method = "GET",
          .path = "/v1/responses/*",
          .reply = [](const HttpRequest&, Serving&,
                      const WireMetrics&) { return stored_response_reply(); }},
    Route{.method = "POST",
          .path = "/v1/messages",
          .prepare = prepare_messages,
          .write_error = messages_error_body},
    Route{.method = "POST",
          .path = "/v1/messages/count_tokens",
          .prepare = [](const HttpRequest& http, Serving& serving) -> Prepared {
            return count_tokens_reply(http, serving);
          },
          .write_error = messages_error_body},
    Route{.method = "POST",
          .path = "/tokenize",
          .prepare = [](const HttpRequest& http, Serving& serving) -> Prepared {
            return tokenize_reply(http, serving);
          }},
    Route{.method = "POST",
          .path = "/detokenize",
          .prepare = [](const HttpRequest& http, Serving& serving) -> Prepared {
            return detokenize_reply(http, serving);
          }},
    Route{.method = "POST",
          .path = "/apply-template",
          .prepare = [](const HttpRequest& http, Serving& serving) -> Prepared {
            return apply_template_reply(http, serving);
          }},
};

}  // namespace

std::span<const Route> routes() { return kRoutes; }

}  // namespace nereid::server
