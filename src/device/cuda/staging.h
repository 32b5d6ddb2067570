// Goal: memory of any kind to the GPU at the speed of the bus: threads copy it piece by piece into
// pinned memory while the pieces before are on their way.
// Non-goal: memory that is pinned already.
// Rejected: pinning the mapped file itself. Not every file system and container allows it, and it
// takes as long as a copy by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "device/cpu/thread_pool.h"
#include "device/cuda/session.h"

namespace nereid::device::cuda {

class Staging {
 public:
  explicit Staging(Session& session) : session_(session) {}
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Queued when it returns; `source` has been read.
  void send(std::uint64_t target, std::span<const std::byte> source);

 private:
  struct Piece {
    std::byte* memory = nullptr;
    Event sent = nullptr;
    bool is_busy = false;
  };
  struct Ring {
    std::size_t piece_bytes;
    std::size_t n_pieces;
    std::vector<Piece> pieces = {};
    std::size_t next = 0;
  };

  // Made by the first send of its kind: a program that loads nothing large pins nothing large.
  Piece& next_piece(Ring& ring);
  void copy(std::byte* target, std::span<const std::byte> source);

  Session& session_;
  Ring small_{std::size_t{256} << 10, 4};
  Ring large_{std::size_t{16} << 20, 4};
  std::optional<ThreadPool> threads_;
};

}  // namespace nereid::device::cuda
