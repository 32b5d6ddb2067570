// Goal: the HTTP server: which handler answers what, who may ask, and its life from the opening of
// the model to the last answer.
// Non-goal: what handlers say (api/), bytes on the wire (http/), computing (nereid::Service).
// Rejected: a thread for each connection: a thousand streams would be a thousand threads, and a
// health probe would wait behind them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "nereid/service.h"
#include "server/serving.h"

namespace nereid::server {

// Makes the service with that ServiceOptions::on_step.
using ServiceOpener = std::function<std::unique_ptr<Service>(StepCallback on_step)>;

class Server {
 public:
  // Listens at once; the model opens meanwhile. An Error where the address is none, or taken.
  Server(ServerOptions options, const ServiceOpener& open);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::uint16_t port() const;
  Serving& serving();

  // Serves until stop() or a signal, and what was begun is answered or the time for that is over.
  // Throws what opening the model throws, and where the engine has failed.
  void run();
  // Drains. From any thread, or (SIGTERM, SIGINT) a signal where handle_signals() was called; a
  // second one ends the process.
  void stop();
  void handle_signals();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nereid::server
