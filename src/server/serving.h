// Goal: what all handlers share: the options, the engine behind its service, and what is counted of
// requests before they reach it.
// Non-goal: connections (http/), what a handler says (api/).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/chat_template.h"
#include "nereid/service.h"
#include "server/http/limits.h"
#include "tokenizer/tokenizer.h"

namespace nereid::server {

struct ServerOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;               // 0: a free one
  std::vector<std::string> api_keys = {};  // empty: everybody is let in
  // Pages from which browsers may use this server, "https://example.org"; "*": all.
  std::vector<std::string> cors_origins = {};
  // Names under which it is reached, besides its addresses and localhost; "*": whatever.
  std::vector<std::string> allowed_hosts = {};
  HttpLimits limits = {};
  std::chrono::milliseconds drain_time{30'000};

  std::vector<std::string> model_names = {};  // the first is told, all are taken
  std::filesystem::path model_dir = {};
  std::filesystem::path chat_template = {};  // empty: the model's
  std::string version = {};
  std::string metrics_prefix = "nereid";
  bool logs_requests = true;
  bool logs_json = false;
};

// Names that clients sent and nobody looked at. A bounded number of names: they are the clients'.
class UnknownFields {
 public:
  // True where it is the first time.
  bool count(const std::string& name);
  std::map<std::string, std::int64_t> counts() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::int64_t> counts_;
};

class Serving {
 public:
  Serving(ServerOptions options, std::unique_ptr<Service> service);

  const ServerOptions& options() const { return options_; }
  Service& service() const { return *service_; }
  const std::string& model_name() const { return options_.model_names.front(); }
  const std::string& fingerprint() const { return fingerprint_; }
  std::int64_t started_s() const { return started_s_; }  // Unix time

  // An Error while the model still opens, or where it has none.
  const tokenizer::Tokenizer& tokenizer() const;
  const chat::ChatTemplate& chat_template() const;

  // 0 while the model opens.
  std::int64_t kv_block_tokens() const;

  UnknownFields& unknown_fields() { return unknown_fields_; }
  const UnknownFields& unknown_fields() const { return unknown_fields_; }

  // An ApiError where `name` is no name of this model.
  void check_model(std::string_view name) const;

 private:
  ServerOptions options_;
  std::unique_ptr<Service> service_;
  std::string fingerprint_;
  std::int64_t started_s_;
  UnknownFields unknown_fields_;
  mutable std::once_flag template_read_;
  mutable std::optional<chat::ChatTemplate> template_;
};

}  // namespace nereid::server
