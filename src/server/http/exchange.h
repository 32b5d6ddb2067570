// Goal: the way back of one request: a whole reply, or a stream of server-sent events.
// Non-goal: what is said (the handlers'), sockets (connection.h).
// Rejected: handlers that return a reply. One that streams has more to say, later and in pieces.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "server/http/message.h"

namespace nereid::server {

// All of it on the server's I/O thread. Nothing throws for a client that went away: what is sent
// to it then is dropped.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // Ends the exchange.
  virtual void reply(HttpReply reply) = 0;

  // Status 200 and the head of an event stream; send() and end() follow.
  virtual void begin_events() = 0;
  virtual void send(std::string_view bytes) = 0;
  virtual void end() = 0;

  // False once the client is gone, was too slow, or the exchange has ended.
  virtual bool is_open() const = 0;
  // Accepted by send() and not yet by the network.
  virtual std::size_t n_unsent_bytes() const = 0;

  // Called once, should the client go away before the end.
  std::function<void()> on_gone = {};
};

}  // namespace nereid::server
