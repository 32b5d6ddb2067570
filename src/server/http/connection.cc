#include "server/http/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "server/error_body.h"
#include "server/http/text.h"

namespace nereid::server {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Clock = std::chrono::steady_clock;
using Parser = http::request_parser<http::string_body>;
using ErrorCodeOfBoost = boost::system::error_code;

constexpr std::chrono::milliseconds kLinger{1000};  // for a refused client to read why
constexpr int kClientClosedRequest = 499;

std::string new_request_id() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{:016x}", random());
}

// A client's own name for its request, where it is one line of plain characters.
std::string request_id_of(std::string_view given) {
  const auto is_plain = [](char c) { return c > ' ' && c < '\x7f' && c != '"' && c != '\\'; };
  if (given.empty() || given.size() > 128 || !std::ranges::all_of(given, is_plain))
    return new_request_id();
  return std::string(given);
}

class Connection;

// The way back of the connection's request, until another takes its place.
class ConnectionExchange : public Exchange {
 public:
  explicit ConnectionExchange(std::shared_ptr<Connection> connection)
      : connection_(std::move(connection)) {}
  ~ConnectionExchange() override;
  ConnectionExchange(const ConnectionExchange&) = delete;
  ConnectionExchange& operator=(const ConnectionExchange&) = delete;

  void reply(HttpReply reply) override;
  void begin_events() override;
  void send(std::string_view bytes) override;
  void end() override;
  bool is_open() const override { return connection_ != nullptr; }
  std::size_t n_unsent_bytes() const override;

  // The client is gone.
  void abandon();

 private:
  std::shared_ptr<Connection> connection_;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(asio::ip::tcp::socket socket, std::shared_ptr<ConnectionHost> host)
      : socket_(std::move(socket)), host_(std::move(host)), timer_(socket_.get_executor()) {
    ++host_->n_open;
    ErrorCodeOfBoost ignored;
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    socket_.non_blocking(true, ignored);
    const auto peer = socket_.remote_endpoint(ignored);
    if (!ignored) client_ = fmt::format("{}:{}", peer.address().to_string(), peer.port());
  }
  ~Connection() {
    count_body_bytes(0);
    --host_->n_open;
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start() {
    await_request();
    read();
  }

  // Of the exchange.
  void reply(const HttpReply& reply) {
    status_ = reply.status;
    write(head_of(reply.status, reply.content_type, reply.headers, reply.body.size()));
    if (request_.method != "HEAD") write(reply.body);
    finish_answer();
  }

  void begin_events() {
    status_ = 200;
    is_chunked_ = parser_version_ >= 11;
    if (!is_chunked_) closes_ = true;
    write(head_of(200, "text/event-stream",
                  {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}, std::nullopt));
  }

  void send(std::string_view bytes) {
    if (bytes.empty()) return;
    if (is_chunked_) {
      write(fmt::format("{:x}\r\n", bytes.size()));
      write(bytes);
      write("\r\n");
    } else {
      write(bytes);
    }
    if (n_unsent_bytes() > host_->limits.unsent_bytes) {
      ++host_->n_cut_off;
      close();
    }
  }

  void end() {
    if (is_chunked_) write("0\r\n\r\n");
    finish_answer();
  }

  std::size_t n_unsent_bytes() const { return waiting_.size() + writing_.size(); }

 private:
  enum class State : std::uint8_t {
    awaiting,   // no byte of a request is there
    reading,    // a head or a body is incomplete
    answering,  // the handler has it
    lingering,  // the last answer is written; the client's bytes are thrown away until it closes
    closed,
  };

  // -------------------------------------------------------------------------------- reading

  void await_request() {
    state_ = State::awaiting;
    parser_.emplace();
    parser_->header_limit(std::uint32_t(host_->limits.header_bytes));
    parser_->body_limit(host_->limits.body_bytes);
    parser_->eager(true);
    has_head_ = false;
    set_deadline(host_->limits.idle_time);
  }

  // Waits for bytes and then reads them to where all connections do: most only wait.
  void read() {
    socket_.async_wait(
        asio::ip::tcp::socket::wait_read,
        [self = shared_from_this()](ErrorCodeOfBoost error) { self->on_readable(error); });
  }

  void on_readable(ErrorCodeOfBoost error) {
    if (state_ == State::closed) return;
    std::size_t n_bytes = 0;
    if (!error) n_bytes = socket_.read_some(asio::buffer(host_->read_bytes), error);
    if (error && error != asio::error::would_block) {
      close();
      return;
    }
    if (!error && state_ != State::lingering) {
      const auto bytes = asio::buffer(host_->read_bytes.data(), n_bytes);
      if (state_ == State::answering && !is_answered_) {
        // Only a client that has not waited for its answer sends while it is made.
        closes_ = true;
      } else if (state_ == State::answering && buffer_.size() > host_->limits.header_bytes) {
        closes_ = true;
      } else {
        buffer_.commit(asio::buffer_copy(buffer_.prepare(n_bytes), bytes));
        parse();
      }
    }
    if (state_ != State::closed) read();
  }

  void parse() {
    while ((state_ == State::awaiting || state_ == State::reading) && buffer_.size() > 0) {
      if (state_ == State::awaiting) {
        state_ = State::reading;
        head_began_ = Clock::now();
        set_deadline(host_->limits.header_time);
      }
      ErrorCodeOfBoost error;
      buffer_.consume(parser_->put(buffer_.data(), error));
      // Beast looks at its limit only where a line of the head is cut.
      if (!parser_->is_header_done() && buffer_.size() > host_->limits.header_bytes)
        error = http::error::header_limit;
      if (parser_->is_header_done() && !has_head_ && (!error || error == http::error::need_more)) {
        has_head_ = true;
        if (!take_head()) return;
      }
      count_body_bytes(parser_->get().body().size());
      if (host_->n_body_bytes > host_->limits.total_body_bytes) {
        refuse(503, "too many large requests arrive at once; try again later");
        return;
      }
      if (error == http::error::need_more) {
        if (has_head_) set_deadline(host_->limits.body_time);
        return;
      }
      if (error) {
        refuse(error);
        return;
      }
      if (parser_->is_done()) {
        handle();
        return;
      }
    }
  }

  void count_body_bytes(std::size_t n_bytes) {
    host_->n_body_bytes += n_bytes - n_body_bytes_;
    n_body_bytes_ = n_bytes;
  }

  // False where the request is refused already.
  bool take_head() {
    const auto& head = parser_->get();
    request_ = {};
    request_.client = client_;
    request_.method = std::string(head.method_string());
    const std::string_view target(head.target().data(), head.target().size());
    request_.path = std::string(target.substr(0, target.find('?')));
    for (const auto& field : head)
      request_.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
    request_.id = request_id_of(header_of(request_.headers, "X-Request-Id"));
    parser_version_ = head.version();
    closes_ = !parser_->keep_alive() || host_->is_draining;

    std::size_t n_hosts = 0, n_codings = 0, n_bytes = target.size();
    for (const auto& [name, value] : request_.headers) {
      n_bytes += name.size() + value.size();
      n_hosts += equal_ignoring_case(name, "Host");
      if (equal_ignoring_case(name, "Transfer-Encoding")) {
        ++n_codings;
        // What two programs on the way read differently is how a request hides in another.
        if (!equal_ignoring_case(value, "chunked"))
          return refuse(501, "the transfer coding is not known; expected chunked");
      }
    }
    if (n_bytes > host_->limits.header_bytes) {
      refuse(http::error::header_limit);
      return false;
    }
    if (n_codings > 0 && (n_codings > 1 || parser_version_ < 11))
      return refuse(400, "one Transfer-Encoding, and only in HTTP/1.1, is understood");
    if (parser_version_ != 10 && parser_version_ != 11)
      return refuse(505, "expected HTTP/1.1 or HTTP/1.0");
    if (n_hosts > 1 || (n_hosts == 0 && parser_version_ == 11))
      return refuse(400, "expected one Host header");
    if (parser_->upgrade() || request_.method == "CONNECT")
      return refuse(400, "no other protocol is spoken here; expected plain requests");
    const auto expectation = header_of(request_.headers, "Expect");
    if (!expectation.empty()) {
      if (!equal_ignoring_case(expectation, "100-continue"))
        return refuse(417, "the only expectation that is met is 100-continue");
      if (!parser_->is_done()) write("HTTP/1.1 100 Continue\r\n\r\n");
    }
    return true;
  }

  void handle() {
    state_ = State::answering;
    disarm();
    if (buffer_.size() > 0) {
      closes_ = true;
      buffer_.clear();
    }
    request_.body = std::move(parser_->get().body());
    count_body_bytes(0);
    parser_.reset();
    status_ = 0;
    is_chunked_ = false;
    const auto exchange = std::make_shared<ConnectionExchange>(shared_from_this());
    exchange_ = exchange;
    host_->handler(request_, exchange);
  }

  bool refuse(int status, std::string_view why) {
    exchange_.reset();
    status_ = status;
    closes_ = true;
    state_ = State::answering;
    if (request_.id.empty()) request_ = {.id = new_request_id(), .client = client_};
    const std::string body = error_body(status, why);
    write(head_of(status, "application/json", {}, body.size()));
    write(body);
    finish_answer();
    return false;
  }

  void refuse(const ErrorCodeOfBoost& error) {
    if (error == http::error::header_limit)
      refuse(431,
             fmt::format("the head of a request may have {} bytes", host_->limits.header_bytes));
    else if (error == http::error::body_limit)
      refuse(413, fmt::format("the body of a request may have {} bytes", host_->limits.body_bytes));
    else
      refuse(400, fmt::format("this is no HTTP request: {}", error.message()));
  }

  // -------------------------------------------------------------------------------- writing

  std::string head_of(int status, std::string_view content_type, const Headers& headers,
                      std::optional<std::size_t> n_body_bytes) {
    std::string head =
        fmt::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\n", status,
                    std::string(http::obsolete_reason(http::status(status))), content_type);
    const auto add = [&head](std::string_view name, std::string_view value) {
      head.append(name).append(": ").append(value).append("\r\n");
    };
    if (n_body_bytes)
      add("Content-Length", fmt::format("{}", *n_body_bytes));
    else if (is_chunked_)
      add("Transfer-Encoding", "chunked");
    add("X-Request-Id", request_.id);
    add("Connection", closes_ ? "close" : "keep-alive");
    for (const auto& [name, value] : headers) add(name, value);
    for (const auto& [name, value] : host_->extra_headers(&request_)) add(name, value);
    head += "\r\n";
    return head;
  }

  void write(std::string_view bytes) {
    if (state_ == State::closed || host_->is_closed) return;
    waiting_ += bytes;
    if (!is_write_posted_ && writing_.empty()) {
      // Once this turn of the loop is over, so that what it says goes out together.
      is_write_posted_ = true;
      asio::post(socket_.get_executor(), [self = shared_from_this()] {
        self->is_write_posted_ = false;
        self->write_waiting();
      });
    }
  }

  void write_waiting() {
    if (state_ == State::closed || !writing_.empty() || waiting_.empty()) return;
    writing_.swap(waiting_);
    // As a rule the network takes all of it: a token then costs no timer and no turn of the loop.
    ErrorCodeOfBoost at_once;
    const std::size_t n_written = socket_.write_some(asio::buffer(writing_), at_once);
    if ((at_once && at_once != asio::error::would_block) || n_written == writing_.size()) {
      on_written(at_once);
      return;
    }
    set_deadline(host_->limits.write_time);
    asio::async_write(socket_, asio::buffer(writing_) + n_written,
                      [self = shared_from_this()](ErrorCodeOfBoost error, std::size_t) {
                        self->on_written(error);
                      });
  }

  void on_written(ErrorCodeOfBoost error) {
    if (state_ == State::closed) return;
    writing_.clear();
    if (error) {
      close();
      return;
    }
    if (!waiting_.empty()) {
      write_waiting();
      return;
    }
    if (!is_answered_) {
      if (state_ == State::answering) disarm();
      return;
    }
    is_answered_ = false;
    if (closes_ || host_->is_draining) {
      linger();
    } else {
      await_request();
      parse();
    }
  }

  // All of the answer is in the queue.
  void finish_answer() {
    if (state_ == State::closed) return;
    is_answered_ = true;
    tell_answered();
  }

  void tell_answered() {
    const std::chrono::duration<double> seconds = Clock::now() - head_began_;
    if (host_->on_answered) host_->on_answered(request_, status_, seconds.count());
  }

  // A close with unread bytes would reset the connection, and the client might lose the answer.
  void linger() {
    state_ = State::lingering;
    ErrorCodeOfBoost ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    set_deadline(kLinger);
  }

  void close() {
    if (state_ == State::closed) return;
    count_body_bytes(0);
    const bool was_answering = state_ == State::answering && !is_answered_;
    state_ = State::closed;
    ErrorCodeOfBoost ignored;
    socket_.close(ignored);
    disarm();
    waiting_.clear();
    if (!was_answering) return;
    if (status_ == 0) status_ = kClientClosedRequest;
    tell_answered();
    if (const auto exchange = exchange_.lock()) exchange->abandon();
  }

  // -------------------------------------------------------------------------------- time

  void set_deadline(std::chrono::milliseconds from_now) {
    timer_.expires_after(from_now);
    timer_.async_wait([self = shared_from_this()](ErrorCodeOfBoost error) {
      // A timer that is set anew while its last wait is on the way to its handler.
      if (error || self->timer_.expiry() > Clock::now()) return;
      self->on_deadline();
    });
  }

  void disarm() { timer_.expires_at(Clock::time_point::max()); }

  void on_deadline() {
    if (state_ == State::reading && writing_.empty())
      refuse(408, "the request took too long to arrive");
    else
      close();
  }

  asio::ip::tcp::socket socket_;
  std::shared_ptr<ConnectionHost> host_;
  asio::steady_timer timer_;
  std::string client_;
  State state_ = State::awaiting;

  beast::flat_buffer buffer_;  // read and not parsed
  std::optional<Parser> parser_;
  bool has_head_ = false;
  std::size_t n_body_bytes_ = 0;  // that host_ counts for this one
  Clock::time_point head_began_ = Clock::now();

  HttpRequest request_;
  unsigned parser_version_ = 11;
  std::weak_ptr<ConnectionExchange> exchange_;
  int status_ = 0;
  bool closes_ = false;  // after this answer
  bool is_chunked_ = false;
  bool is_answered_ = false;  // all of it is written or in waiting_

  std::string waiting_, writing_;
  bool is_write_posted_ = false;
};

ConnectionExchange::~ConnectionExchange() {
  if (connection_)
    connection_->reply({.status = 500, .body = error_body(500, "no answer was made")});
}

void ConnectionExchange::reply(HttpReply reply) {
  if (const auto connection = std::exchange(connection_, nullptr)) connection->reply(reply);
}

void ConnectionExchange::begin_events() {
  if (connection_) connection_->begin_events();
}

void ConnectionExchange::send(std::string_view bytes) {
  if (const auto connection = connection_) connection->send(bytes);
}

void ConnectionExchange::end() {
  if (const auto connection = std::exchange(connection_, nullptr)) connection->end();
}

std::size_t ConnectionExchange::n_unsent_bytes() const {
  return connection_ ? connection_->n_unsent_bytes() : 0;
}

void ConnectionExchange::abandon() {
  connection_ = nullptr;
  if (const auto gone = std::exchange(on_gone, {})) gone();
}

}  // namespace

void serve_connection(asio::ip::tcp::socket socket, std::shared_ptr<ConnectionHost> host) {
  std::make_shared<Connection>(std::move(socket), std::move(host))->start();
}

}  // namespace nereid::server
