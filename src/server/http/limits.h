// Goal: what a client may cost before it has been heard.
// Non-goal: the queue of requests that were (ServiceOptions).
#pragma once

#include <chrono>
#include <cstddef>

namespace nereid::server {

struct HttpLimits {
  std::size_t header_bytes = 16 * 1024;
  std::size_t body_bytes = 32 * 1024 * 1024;
  std::size_t total_body_bytes = 256 * 1024 * 1024;  // of all bodies that are on their way
  // Of an event stream that its client does not read; it is then cut off.
  std::size_t unsent_bytes = 1024 * 1024;
  std::size_t n_connections = 4096;
  std::chrono::milliseconds header_time{10'000};  // from its first byte to its last
  std::chrono::milliseconds body_time{60'000};    // between two pieces of it
  std::chrono::milliseconds idle_time{75'000};    // of a connection without a request
  std::chrono::milliseconds write_time{60'000};   // of a piece that the client does not take
};

}  // namespace nereid::server
