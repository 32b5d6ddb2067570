#include "program/staging.h"

#include <algorithm>

namespace nereid::program {

namespace {

constexpr std::size_t kPieceBytes = std::size_t{64} << 20;

}  // namespace

std::size_t staged_rows(std::size_t row_bytes) {
  constexpr auto kStep = kStagingAlignmentBytes;
  return std::max(kStep, kPieceBytes / std::max<std::size_t>(row_bytes, 1) / kStep * kStep);
}

device::Address Staging::address_of(std::span<const std::byte> bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  if (device_.reads_host_memory() && address % kStagingAlignmentBytes == 0) return address;
  device_.upload(reserve(bytes.size()), bytes);
  return buffer_.address();
}

device::Address Staging::reserve(std::size_t n_bytes) {
  if (buffer_.size_bytes() < n_bytes) {
    device_.synchronize();  // what is replaced may still be read
    buffer_ = {};
    buffer_ = device_.allocate(n_bytes, "weights on their way");
  }
  return buffer_.address();
}

}  // namespace nereid::program
