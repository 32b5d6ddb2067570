// Goal: the rows of the state `allowed` that a step's tail waits for: filled by the host while the
// step computes its logits, then sent with nothing that waits for the device.
// Non-goal: what is allowed (engine).
// Rejected: Device::upload(). It goes through a few pieces of pinned memory, and would wait for the
// step that it is to be filled beside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/device.h"

namespace nereid::program {

class MaskRows {
 public:
  explicit MaskRows(device::Device& device) : device_(device) {}

  // Once: where the state lies, [n_rows, n_words] i32.
  void place(device::Address address, std::int64_t n_rows, std::int64_t n_words);

  // A bit a token, to be filled: those of a row are the caller's until they are sent, and again
  // once the step that reads them is done. The first call takes the memory.
  std::span<std::uint32_t> row(std::int32_t index);
  // Queued. `rows` ascend: what lies side by side is one copy.
  void send(std::span<const std::int32_t> rows);

 private:
  device::Device& device_;
  device::Address address_ = 0;
  std::size_t n_rows_ = 0, n_words_ = 0;
  // Empty where the device reads host memory: then the state itself is written.
  device::HostBuffer staging_;
  std::uint32_t* words_ = nullptr;
};

}  // namespace nereid::program
