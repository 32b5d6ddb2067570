// Goal: one client's connection: requests in, one after another, and their answers out. A read is
// always pending, so that a client that goes away is seen at once, whatever its request is waiting
// for. Bytes of a second request before the first is answered end the connection after that answer:
// nothing is pipelined.
// Non-goal: what is answered; TLS (a proxy's).
// Rejected: Beast's async_read and async_write of messages. The first reads nothing while a handler
// works, and the second writes one message, where an event stream grows while it is written.
// Half-closed connections count as gone: a proxy that gives up closes just its sending half.
#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>

#include "server/http/exchange.h"
#include "server/http/limits.h"

namespace nereid::server {

// Takes a request; the answer may come at any later time.
using HttpHandler = std::function<void(HttpRequest, const std::shared_ptr<Exchange>&)>;

// What all connections of a server share. On its I/O thread.
struct ConnectionHost {
  HttpLimits limits;
  HttpHandler handler;
  // Of each request once it is answered or given up; seconds since its head came. Status 499: the
  // client went away before a status was sent.
  std::function<void(const HttpRequest&, int status, double seconds)> on_answered;
  // Headers that every reply has.
  std::function<Headers(const HttpRequest*)> extra_headers;
  std::array<char, 16 * 1024> read_bytes;  // of whichever connection's turn it is
  std::size_t n_open = 0;
  std::size_t n_body_bytes = 0;  // of bodies that are being read
  std::size_t n_cut_off = 0;     // slow readers
  bool is_draining = false;      // connections are closed after their answer
  bool is_closed = false;        // the loop turns no more: nothing is written
};

// Serves the socket until either side closes it.
void serve_connection(boost::asio::ip::tcp::socket socket, std::shared_ptr<ConnectionHost> host);

}  // namespace nereid::server
