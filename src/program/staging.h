// Goal: weights of a file where kernels can read them: some rows at a time, through memory of
// little more than a piece's size. Non-goal: what is made of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/device.h"

namespace nereid::program {

// Every piece begins where kernels were promised that addresses do.
inline constexpr std::size_t kStagingAlignmentBytes = 16;

// Rows of so many bytes that make one piece: little beside the weights, and many of them, which
// begin where kernels were promised that addresses do.
std::size_t staged_rows(std::size_t row_bytes);

class Staging {
 public:
  explicit Staging(device::Device& device) : device_(device) {}

  // On the device, until the next call; bytes that kernels can read where they lie stay there.
  device::Address address_of(std::span<const std::byte> bytes);
  // Room for as much, to be filled by a kernel.
  device::Address reserve(std::size_t n_bytes);

 private:
  device::Device& device_;
  device::Buffer buffer_;
};

}  // namespace nereid::program
