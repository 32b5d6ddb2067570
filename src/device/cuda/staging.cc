#include "device/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "device/cpu/host.h"
#include "device/cpu/parallel_copy.h"

namespace nereid::device::cuda {

namespace {

constexpr unsigned kEventWithoutTiming = 2;
// More threads than this copy no faster: they share the memory's bandwidth.
constexpr int kMaxCopyThreads = 8;
}  // namespace

Staging::~Staging() {
  session_.make_current_to_close();
  const auto& api = session_.api();
  for (const Ring* ring : {&small_, &large_})
    for (const auto& piece : ring->pieces) {
      // Pinned memory is not taken back from under a copy.
      if (piece.is_busy) api.event_synchronize(piece.sent);
      if (piece.sent != nullptr) api.event_destroy(piece.sent);
      if (piece.memory != nullptr) api.host_free(piece.memory);
    }
}

Staging::Piece& Staging::next_piece(Ring& ring) {
  const auto& api = session_.api();
  if (ring.pieces.size() < ring.n_pieces) {
    // In the ring before anything can fail: its destructor frees what there is.
    auto& piece = ring.pieces.emplace_back();
    ring.next = 0;
    try {
      void* memory = nullptr;
      session_.call(api.host_allocate, &memory, ring.piece_bytes, 0u);
      piece.memory = static_cast<std::byte*>(memory);
      session_.call(api.event_create, &piece.sent, kEventWithoutTiming);
    } catch (...) {
      if (piece.memory != nullptr) api.host_free(piece.memory);
      ring.pieces.pop_back();
      throw;
    }
    return piece;
  }
  auto& piece = ring.pieces[ring.next];
  if (piece.is_busy) session_.call(api.event_synchronize, piece.sent);
  piece.is_busy = false;
  ring.next = (ring.next + 1) % ring.n_pieces;
  return piece;
}

void Staging::send(std::uint64_t target, std::span<const std::byte> source) {
  session_.make_current();
  const auto& api = session_.api();
  Ring& ring = source.size() > small_.piece_bytes ? large_ : small_;
  while (!source.empty()) {
    const auto n_bytes = std::min(source.size(), ring.piece_bytes);
    auto& piece = next_piece(ring);
    copy(piece.memory, source.first(n_bytes));
    session_.call(api.copy_to_device, target, piece.memory, n_bytes, session_.stream());
    if (const auto recorded = api.event_record(piece.sent, session_.stream()); recorded != 0) {
      api.stream_synchronize(
          session_.stream());  // the copy is on its way, with nothing to wait for
      session_.check(recorded, api.event_record.symbol);
    }
    piece.is_busy = true;
    target += n_bytes;
    source = source.subspan(n_bytes);
  }
}

void Staging::copy(std::byte* target, std::span<const std::byte> source) {
  if (source.size() <= kCopySliceBytes) {
    std::memcpy(target, source.data(), source.size());
    return;
  }
  if (!threads_) threads_.emplace(std::min(kMaxCopyThreads, host_cpus().n_usable));
  parallel_copy(*threads_, target, source);
}

}  // namespace nereid::device::cuda
