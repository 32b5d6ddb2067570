// Goal: a step's small arrays (token ids, positions, block tables, ...) at fixed device addresses,
// sent in one copy that nobody waits for.
// Non-goal: anything as large as an activation.
// Rejected: a buffer an array: a dozen tiny copies a step cost more than the step's bookkeeping.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "device/device.h"
#include "graph/ir.h"
#include "graph/sizes.h"

namespace nereid::program {

class StepInputs {
 public:
  explicit StepInputs(device::Device& device) : device_(device) {}

  // Makes room for an input of a graph at its largest; a name declared before keeps its place.
  // Before seal().
  void declare(const graph::Value& value, const graph::Sizes& largest);
  // `last` gets the end of the buffer: of it, steps send only what they use.
  void seal(const std::string& last);

  device::Address address(const std::string& name) const;

  // A handle for the step loop, so that no step looks a name up; -1 where no graph reads it.
  int handle(const std::string& name) const;

  // The elements of an input, to be written before send(), and after the step that was sent before
  // is done. T must have the input's element size.
  template <typename T>
  std::span<T> elements(int handle) {
    const auto& array = arrays_[static_cast<std::size_t>(handle)];
    return {reinterpret_cast<T*>(host_ + array.offset), array.bytes / sizeof(T)};
  }

  // Queued; all inputs, and so many bytes of the last.
  void send(std::size_t n_last_bytes);

 private:
  struct Array {
    std::string name;
    std::size_t offset, bytes;
  };

  device::Device& device_;
  std::vector<Array> arrays_;
  std::size_t size_bytes_ = 0;
  std::size_t last_offset_ = 0;
  device::Buffer buffer_;
  // Empty where the device reads host memory: then the buffer itself is written.
  device::HostBuffer staging_;
  std::byte* host_ = nullptr;
};

}  // namespace nereid::program
