#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <deque>
#include <exception>
#include <mutex>
#include <new>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "server/access_log.h"
#include "server/error_body.h"
#include "server/guard.h"
#include "server/http/connection.h"
#include "server/live_answer.h"
#include "server/metrics_text.h"
#include "server/routes.h"

namespace nereid::server {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

// Reading bodies, rendering templates and making tokens of them: one long prompt must not hold up
// the next short one.
constexpr std::size_t kNWorkers = 2;
constexpr std::size_t kMaxPreparing = 1024;
// Answers that are told before the loop looks at its sockets again: a probe waits for so many at
// most, whatever a step brought.
constexpr std::size_t kMaxToldAtOnce = 16;
constexpr std::chrono::seconds kBeat{15};
constexpr std::chrono::milliseconds kWatch{100};
constexpr std::chrono::milliseconds kAcceptPause{100};  // where no further file can be opened

bool matches(const Route& route, std::string_view path) {
  if (!route.path.ends_with('*')) return route.path == path;
  const auto stem = route.path.substr(0, route.path.size() - 1);
  return path.starts_with(stem) && path.size() > stem.size();
}

// The methods of HTTP that a metric tells apart: its labels are not the clients' to choose.
std::string method_label(std::string_view method) {
  for (const char* known : {"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})
    if (method == known) return known;
  return "other";
}

std::string handler_label(std::string_view path) {
  for (const auto& route : routes())
    if (matches(route, path)) return std::string(route.path);
  return "none";
}

using WriteError = decltype(Route::write_error);

HttpReply reply_of(const ApiError& error, WriteError write = error_body) {
  return error_reply(error, write(error));
}

// What `action` throws, as a reply.
template <typename Result, typename Action>
Result or_reply(WriteError write, const Action& action) {
  try {
    return action();
  } catch (const ApiError& error) {
    return reply_of(error, write);
  } catch (const Error& error) {
    return reply_of(ApiError(error), write);
  } catch (const std::bad_alloc&) {
    return reply_of(ApiError(503, "memory is short; try again later", {}, "overloaded"), write);
  } catch (const std::exception& error) {
    return reply_of(ApiError(500, error.what(), {}, "internal"), write);
  }
}

}  // namespace

struct Server::Impl {
  // What the service's thread tells after a step, while the server may be gone already.
  struct News {
    std::mutex lifetime;  // of what post_pump uses
    std::function<void()> post_pump;

    std::mutex mutex;
    std::deque<RequestId> requests;  // whose answers are to be pumped, each once
    std::unordered_set<RequestId> is_told;
    bool is_for_all = false;
    bool is_pump_posted = false;

    void tell(std::span<const RequestId> of_step) {
      const std::scoped_lock lock(lifetime);
      if (!post_pump) return;
      bool posts = false;
      {
        const std::scoped_lock lock_of_requests(mutex);
        for (const auto request : of_step)
          if (is_told.insert(request).second) requests.push_back(request);
        is_for_all |= of_step.empty();
        posts = !std::exchange(is_pump_posted, true);
      }
      // Not under the mutex: who wakes would wait for it.
      if (posts) post_pump();
    }
  };

  Impl(ServerOptions options, const ServiceOpener& open)
      : serving(std::move(options),
                open([news = news](std::span<const RequestId> requests) { news->tell(requests); })),
        guard(serving.options()),
        log(serving.options().logs_requests, serving.options().logs_json) {
    host->limits = serving.options().limits;
    host->handler = [this](HttpRequest request, const std::shared_ptr<Exchange>& exchange) {
      handle(std::move(request), exchange);
    };
    host->on_answered = [this](const HttpRequest& request, int status, double seconds) {
      wire.count(handler_label(request.path), method_label(request.method), status, seconds);
      log.write(request, status, seconds);
    };
    host->extra_headers = [this](const HttpRequest* request) {
      return guard.cors_headers(*request);
    };
    listen();
    const std::scoped_lock lock(news->lifetime);
    news->post_pump = [this] { asio::post(io, [this] { pump_news(); }); };
  }

  ~Impl() {
    {
      const std::scoped_lock lock(news->lifetime);
      news->post_pump = {};
    }
    workers.join();
    // What still waits in the loop is destroyed after all that it would call.
    host->is_closed = true;
    host->on_answered = {};
    host->extra_headers = [](const HttpRequest*) { return Headers(); };
  }

  void listen() {
    const auto& options = serving.options();
    boost::system::error_code error;
    const auto address = asio::ip::make_address(
        options.host == "localhost" ? "127.0.0.1" : options.host.c_str(), error);
    if (error)
      throw Error("--host {}: expected an IP address, such as 127.0.0.1, 0.0.0.0 or ::",
                  options.host);
    try {
      const tcp::endpoint endpoint(address, options.port);
      acceptor.open(endpoint.protocol());
      acceptor.set_option(asio::socket_base::reuse_address(true));
      acceptor.bind(endpoint);
      acceptor.listen(asio::socket_base::max_listen_connections);
    } catch (const boost::system::system_error& failure) {
      throw Error(ErrorCode::device, "cannot listen on {} port {}: {}; choose another --port",
                  options.host, options.port, failure.code().message());
    }
  }

  void accept() {
    acceptor.async_accept([this](boost::system::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {  // as a rule too many open files: those that are open go on
        pause.expires_after(kAcceptPause);
        pause.async_wait([this](boost::system::error_code failed) {
          if (!failed) accept();
        });
        return;
      }
      if (host->n_open < host->limits.n_connections) serve_connection(std::move(socket), host);
      accept();
    });
  }

  void handle(HttpRequest request, const std::shared_ptr<Exchange>& exchange) {
    const Route* route = nullptr;
    std::string allowed;
    WriteError write = error_body;
    for (const auto& candidate : routes()) {
      if (!matches(candidate, request.path)) continue;
      if (!allowed.empty()) allowed += ", ";
      allowed += candidate.method;
      write = candidate.write_error;
      if (candidate.method == request.method ||
          (candidate.method == "GET" && request.method == "HEAD"))
        route = &candidate;
    }
    const bool is_preflight = request.method == "OPTIONS" && !allowed.empty();
    const bool needs_key = route == nullptr ? !is_preflight : route->needs_key;
    if (auto refusal = guard.refuse(request, needs_key)) {
      exchange->reply(reply_of(*refusal, write));
    } else if (is_preflight) {
      exchange->reply(guard.preflight_reply(request));
    } else if (allowed.empty()) {
      exchange->reply(reply_of(ApiError(404, fmt::format("there is nothing at {}", request.path))));
    } else if (route == nullptr) {
      auto reply = reply_of(ApiError(405, fmt::format("{} does not take {}; expected {}",
                                                      request.path, request.method, allowed)),
                            write);
      reply.headers.emplace_back("Allow", allowed);
      exchange->reply(std::move(reply));
    } else if (route->reply != nullptr) {
      exchange->reply(or_reply<HttpReply>(
          write, [&] { return route->reply(request, serving, wire_metrics()); }));
    } else {
      prepare(*route, std::move(request), exchange);
    }
  }

  const WireMetrics& wire_metrics() {
    wire.n_connections = host->n_open;
    wire.n_cut_off = host->n_cut_off;
    return wire;
  }

  void prepare(const Route& route, HttpRequest request, const std::shared_ptr<Exchange>& exchange) {
    if (n_preparing >= kMaxPreparing) {
      exchange->reply(reply_of(
          ApiError(503, "too many requests arrive at once; try again later", {}, "overloaded"),
          route.write_error));
      return;
    }
    ++n_preparing;
    const auto is_gone = std::make_shared<std::atomic<bool>>(false);
    exchange->on_gone = [this, is_gone] {
      ++wire.n_disconnected;
      *is_gone = true;
    };
    asio::post(workers, [this, &route, request = std::move(request), exchange, is_gone]() mutable {
      Prepared prepared;
      if (!*is_gone)
        prepared =
            or_reply<Prepared>(route.write_error, [&] { return route.prepare(request, serving); });
      // The exchange is the I/O thread's, its end too.
      asio::post(io, [this, prepared = std::make_shared<Prepared>(std::move(prepared)),
                      exchange = std::move(exchange)] {
        --n_preparing;
        start(std::move(*prepared), exchange);
      });
    });
  }

  void start(Prepared prepared, const std::shared_ptr<Exchange>& exchange) {
    if (!exchange->is_open()) return;  // what it began ends with its streams
    if (auto* reply = std::get_if<HttpReply>(&prepared)) {
      exchange->reply(std::move(*reply));
      return;
    }
    const auto number = ++n_live;
    auto& answer = std::get<std::unique_ptr<LiveAnswer>>(prepared);
    auto requests = answer->requests();
    for (const auto request : requests) number_of[request] = number;
    lives[number] = {std::move(answer), exchange, std::move(requests)};
    exchange->on_gone = [this, number] {
      ++wire.n_disconnected;
      // Not at once: it may be what is being pumped.
      asio::post(io, [this, number] { drop(number); });
    };
    // What came before it had its number.
    pump(number);
  }

  struct Live {
    std::unique_ptr<LiveAnswer> answer;
    std::shared_ptr<Exchange> exchange;
    std::vector<RequestId> requests;  // its streams'
  };

  // False once it is done.
  bool pump(Live& live) {
    if (!live.exchange->is_open()) return false;
    bool goes_on = false;
    try {
      goes_on = live.answer->pump(*live.exchange);
    } catch (const std::exception& error) {
      // Memory is short: one answer ends, the server does not.
      fmt::print(stderr, "nereid: an answer was given up: {}\n", error.what());
      live.answer->fail_with(*live.exchange, ApiError(500, "the answer could not be told"));
    }
    if (!goes_on) {
      const auto& usage = live.answer->usage();
      if (usage.n_prompt_tokens > 0) {
        wire.prompt_tokens.add(double(usage.n_prompt_tokens));
        wire.generated_tokens.add(double(usage.n_generated_tokens));
      }
    }
    return goes_on;
  }

  void pump(std::uint64_t number) {
    const auto it = lives.find(number);
    if (it == lives.end()) return;
    try {
      if (!pump(it->second)) drop(number);
    } catch (const std::exception& error) {  // not even that it was given up could be told
      fmt::print(stderr, "nereid: {}\n", error.what());
    }
  }

  void drop(std::uint64_t number) {
    const auto it = lives.find(number);
    if (it == lives.end()) return;
    for (const auto request : it->second.requests) number_of.erase(request);
    lives.erase(it);
  }

  // Costs what has come, however many wait beside it.
  void pump_news() {
    std::array<RequestId, kMaxToldAtOnce> requests;
    std::size_t n_requests = 0;
    bool is_for_all = false, has_more = false;
    {
      const std::scoped_lock lock(news->mutex);
      is_for_all = std::exchange(news->is_for_all, false);
      n_requests = std::min(news->requests.size(), requests.size());
      const auto end = news->requests.begin() + std::ptrdiff_t(n_requests);
      std::copy(news->requests.begin(), end, requests.begin());
      for (std::size_t i = 0; i < n_requests; ++i) news->is_told.erase(requests[i]);
      news->requests.erase(news->requests.begin(), end);
      news->is_pump_posted = has_more = !news->requests.empty();
    }
    if (has_more) asio::post(io, [this] { pump_news(); });
    if (is_for_all) pump_all();
    for (std::size_t i = 0; i < n_requests; ++i)
      if (const auto it = number_of.find(requests[i]); it != number_of.end()) pump(it->second);
  }

  void pump_all() {
    std::vector<std::uint64_t> numbers;
    for (const auto& [number, live] : lives) numbers.push_back(number);
    for (const auto number : numbers) pump(number);
  }

  void beat() {
    beats.expires_after(kBeat);
    beats.async_wait([this](boost::system::error_code error) {
      if (error) return;
      for (auto& [number, live] : lives)
        if (live.exchange->is_open()) live.answer->beat(*live.exchange);
      beat();
    });
  }

  // The engine's end, and that of draining.
  void watch() {
    watches.expires_after(kWatch);
    watches.async_wait([this](boost::system::error_code error) {
      if (error) return;
      const auto state = serving.service().status().state;
      if (state == ServiceState::failed) {
        pump_all();
        is_over = true;
      } else if (is_draining) {
        const bool is_drained = serving.service().drain(std::chrono::milliseconds(0)) &&
                                lives.empty() && n_preparing == 0;
        if (is_drained || Clock::now() >= drain_ends || was_opening) is_over = true;
      }
      if (is_over) {
        leave();
      } else {
        watch();
      }
    });
  }

  void drain() {
    if (std::exchange(is_draining, true)) {
      fmt::print(stderr, "nereid: ended at once\n");
      std::_Exit(1);
    }
    was_opening = serving.service().status().state == ServiceState::opening;
    drain_ends = Clock::now() + serving.options().drain_time;
    host->is_draining = true;
    fmt::print(
        stderr,
        "nereid: ending; answers under way: {}, which have {} s; a second signal ends at once\n",
        lives.size(),
        std::chrono::duration_cast<std::chrono::seconds>(serving.options().drain_time).count());
    if (!was_opening) serving.service().drain(std::chrono::milliseconds(0));
  }

  // Tells who is still served, and goes.
  void leave() {
    for (auto& [number, live] : lives)
      live.answer->fail_with(*live.exchange,
                             ApiError(503, "the server is shutting down", {}, "draining"));
    lives.clear();
    number_of.clear();
    boost::system::error_code ignored;
    acceptor.close(ignored);
    // What was said last is on its way once the loop has turned a few times.
    pause.expires_after(kAcceptPause);
    pause.async_wait([this](boost::system::error_code) { io.stop(); });
  }

  std::shared_ptr<News> news = std::make_shared<News>();
  asio::io_context io{1};
  Serving serving;
  Guard guard;
  AccessLog log;
  WireMetrics wire;
  std::shared_ptr<ConnectionHost> host = std::make_shared<ConnectionHost>();
  tcp::acceptor acceptor{io};
  asio::steady_timer pause{io}, beats{io}, watches{io};
  asio::signal_set signals{io};
  std::unordered_map<std::uint64_t, Live> lives;
  std::unordered_map<RequestId, std::uint64_t> number_of;  // in `lives`
  std::uint64_t n_live = 0;
  std::size_t n_preparing = 0;
  bool is_draining = false, was_opening = false, is_over = false;
  Clock::time_point drain_ends;
  asio::thread_pool workers{kNWorkers};  // the last: its work uses all of the above
};

Server::Server(ServerOptions options, const ServiceOpener& open)
    : impl_(std::make_unique<Impl>(std::move(options), open)) {}
Server::~Server() = default;

std::uint16_t Server::port() const { return impl_->acceptor.local_endpoint().port(); }
Serving& Server::serving() { return impl_->serving; }

void Server::run() {
  impl_->accept();
  impl_->beat();
  impl_->watch();
  for (bool has_ended = false; !has_ended;) {
    try {
      impl_->io.run();
      has_ended = true;
    } catch (const std::exception& error) {  // memory is short: one client's loss, not all clients'
      fmt::print(stderr, "nereid: {}\n", error.what());
    }
  }
  impl_->workers.join();
  const auto status = impl_->serving.service().status();
  if (status.state != ServiceState::failed) return;
  impl_->serving.service().wait_until_ready();  // throws what opening the model threw
  throw Error(ErrorCode::internal, "the engine has failed: {}", status.error);
}

void Server::stop() {
  asio::post(impl_->io, [this] { impl_->drain(); });
}

void Server::handle_signals() {
  impl_->signals.add(SIGTERM);
  impl_->signals.add(SIGINT);
  const auto wait = [this](const auto& self) -> void {
    impl_->signals.async_wait([this, self](boost::system::error_code error, int) {
      if (error) return;
      impl_->drain();
      self(self);
    });
  };
  wait(wait);
}

}  // namespace nereid::server
