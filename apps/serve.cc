// nereid serve: an HTTP server that speaks OpenAI's API.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "base/error.h"
#include "base/usage_error.h"
#include "engine/ranges.h"
#include "nereid/service.h"
#include "server/server.h"

namespace nereid::apps {

namespace {

constexpr engine::IntegerRange kPort{0, 65535, "0 (a free one) to 65535"};
// Files besides connections: the model's, libraries', the loop's own.
constexpr std::size_t kOtherFiles = 256;
constexpr engine::IntegerRange kSeconds{0, 86'400, "0 to 86400"};

struct ServeArguments {
  ModelArguments model;
  server::ServerOptions server;
  ServiceOptions service;
  std::vector<std::string> key_files;
  std::int64_t port = 8000;
  std::int64_t drain_s = 30;
  bool is_quiet = false;
};

constexpr const char* kFooter = R"(
Examples:
  nereid serve demo
  nereid serve path/to/Llama-3.1-8B-Instruct --port 9000 --served-model-name llama
  curl http://127.0.0.1:8000/v1/completions -d '{"prompt": "def fibonacci(n):", "max_tokens": 32}'
The page at http://127.0.0.1:8000/ talks to it; docs/serving.md lists endpoints and parameters.
NEREID_API_KEY in the environment is a key, too.)";

// A key a line; empty lines and those that begin with # are none.
void read_keys(const std::string& path, std::vector<std::string>& keys) {
  std::ifstream file(path);
  if (!file) throw UsageError("--api-key-file {}: cannot be read", path);
  const auto n_before = keys.size();
  for (std::string line; std::getline(file, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty() && line.front() != '#') keys.push_back(line);
  }
  if (keys.size() == n_before) throw UsageError("--api-key-file {}: there is no key in it", path);
}

// A connection is an open file, and of those many systems let a process have 1,024 unless it asks.
void allow_connections(std::size_t n_connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = n_connections + kOtherFiles;
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);  // where it is refused, those beyond it wait to be accepted
}

int run_serve(ServeArguments arguments) {
  auto& options = arguments.server;
  const Options engine_options = resolve(arguments.model);
  options.model_dir = engine_options.model_dir;
  options.port = std::uint16_t(arguments.port);
  options.drain_time = std::chrono::seconds(arguments.drain_s);
  options.version = NEREID_VERSION;
  options.logs_requests = !arguments.is_quiet;
  if (options.model_names.empty()) options.model_names = {arguments.model.model};
  for (const auto& path : arguments.key_files) read_keys(path, options.api_keys);
  if (const char* key = std::getenv("NEREID_API_KEY"); key != nullptr && *key != '\0')
    options.api_keys.emplace_back(key);
  for (const auto& key : options.api_keys)
    if (key.empty()) throw UsageError("--api-key: an empty key would let everybody in");

  allow_connections(options.limits.n_connections);
  server::Server server(options, [&](StepCallback on_step) {
    ServiceOptions service = arguments.service;
    service.on_step = std::move(on_step);
    return std::make_unique<Service>(engine_options, service);
  });
  server.handle_signals();
  const bool is_v6 = options.host.find(':') != std::string::npos;
  fmt::print(stderr, "nereid: http://{}{}{}:{}/ serves {}; the model is being opened\n",
             is_v6 ? "[" : "", options.host, is_v6 ? "]" : "", server.port(),
             options.model_names.front());
  if (options.api_keys.empty() && options.host != "127.0.0.1" && options.host != "localhost" &&
      options.host != "::1")
    fmt::print(stderr, "nereid: everybody who reaches {} may use it; --api-key asks for a key\n",
               options.host);
  server.run();
  return 0;
}

}  // namespace

void add_serve(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<ServeArguments>();
  auto& options = arguments->server;
  auto* command = app.add_subcommand("serve", "Answer requests over HTTP, as OpenAI's API does");
  command->footer(kFooter);
  add_model_options(*command, arguments->model);
  command
      ->add_option("--max-model-len", arguments->model.options.max_context_tokens,
                   "Another name of --context")
      ->check(in_range(engine::ranges::kContextTokens))
      ->type_name("N");
  command->add_option("--host", options.host, "Address to listen on; 0.0.0.0 or :: for all")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command->add_option("--port", arguments->port, "Port to listen on; 0: a free one")
      ->check(in_range(kPort))
      ->capture_default_str();
  command
      ->add_option("--served-model-name", options.model_names,
                   "What clients call the model; several may be given, the first is told")
      ->type_name("NAME")
      ->allow_extra_args(false);
  command
      ->add_option("--chat-template", options.chat_template,
                   "File of a chat template, in place of the model's")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  command
      ->add_option("--api-key", options.api_keys, "A key that callers have to send; several may be")
      ->type_name("KEY")
      ->allow_extra_args(false);
  command->add_option("--api-key-file", arguments->key_files, "A file with a key a line")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command
      ->add_option("--cors-origin", options.cors_origins,
                   "Pages from which browsers may ask, as https://example.org; * for all")
      ->type_name("ORIGIN")
      ->allow_extra_args(false);
  command
      ->add_option("--allowed-host", options.allowed_hosts,
                   "A name under which the server is reached, besides localhost; * for any")
      ->type_name("NAME")
      ->allow_extra_args(false);
  command
      ->add_option("--max-queue", arguments->service.max_queued_requests,
                   "Requests that wait; more are refused with status 503")
      ->check(in_range(engine::ranges::kQueue))
      ->capture_default_str();
  command
      ->add_option("--max-queue-tokens", arguments->service.max_queued_prompt_tokens,
                   "The same of their prompts' tokens")
      ->check(in_range(engine::ranges::kQueue))
      ->capture_default_str();
  command
      ->add_option("--drain-timeout", arguments->drain_s,
                   "Seconds to finish what was begun, when the server is told to end")
      ->check(in_range(kSeconds))
      ->capture_default_str();
  command
      ->add_option("--metrics-prefix", options.metrics_prefix,
                   "First part of the metrics' names; vllm suits dashboards made for that")
      ->type_name("NAME")
      ->check([](const std::string& name) -> std::string {
        const bool is_name =
            !name.empty() &&
            name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") ==
                std::string::npos;
        return is_name ? "" : "expected letters and underscores";
      })
      ->capture_default_str();
  command->add_flag("--log-json", options.logs_json, "The log of requests as JSON, a line each");
  command->add_flag("--no-access-log", arguments->is_quiet, "No line for each request");
  command->callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_serve(std::move(*arguments)); };
  });
}

}  // namespace nereid::apps
