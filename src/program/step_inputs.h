// Goal: a step's small arrays (token ids, positions, block tables, ...) at fixed device addresses.
// A step's are filled while the one before still runs: the host has two sets of them. All but the
// block tables go up in one copy; of those only what changed.
// Non-goal: anything as large as an activation.
// Rejected: a buffer an array: a dozen tiny copies a step cost more than the step's bookkeeping.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "device/device.h"
#include "graph/ir.h"
#include "graph/sizes.h"

namespace nereid::program {

// The arrays lie close together where each sequence brings one token, and so are few bytes; other
// steps have them elsewhere.
enum class InputLayout : std::uint8_t { decode, any };

class StepInputs {
 public:
  explicit StepInputs(device::Device& device) : device_(device) {}

  // Makes room for an input of a graph; a name declared before keeps its place. Before seal().
  // Steps of the decode layout have at most `largest_decode`.
  void declare(const graph::Value& value, const graph::Sizes& largest_decode,
               const graph::Sizes& largest);
  // `tables`: the input [S, B] of which steps send what changed.
  void seal(const std::string& tables);

  device::Address address(const std::string& name, InputLayout layout) const;

  // A handle for the step loop, so that no step looks a name up; -1 where no graph reads it.
  int handle(const std::string& name) const;

  // The next step's arrays are to be filled: elements() are theirs until the next begin(). The step
  // before the last must be done.
  void begin(InputLayout layout);
  template <typename T>
  std::span<T> elements(int handle) {
    const auto& array = arrays_[static_cast<std::size_t>(handle)];
    const auto place = static_cast<std::size_t>(layout_);
    return {reinterpret_cast<T*>(host_[set_] + array.offsets[place]),
            array.bytes[place] / sizeof(T)};
  }
  // A row of the tables: its first elements, those that the step reads.
  void set_table_row(std::size_t row, std::span<const std::int32_t> elements);

  // What another's were filled with since its begin(), which had the same layout: those of another
  // rank of one model.
  void copy_from(const StepInputs& other);
  // Queued: what was filled since begin().
  void send();
  // What was sent last may not have arrived: the next send() leaves nothing out.
  void forget_sent();

 private:
  static constexpr std::size_t kNLayouts = 2;
  struct Array {
    std::string name;
    std::size_t n_columns;  // of its last dimension; 1 where that depends on the step
    std::array<std::size_t, kNLayouts> bytes, offsets;
  };
  struct Changed {
    std::size_t begin, end;  // elements of the tables
  };

  void note_changed(std::size_t begin, std::size_t end);

  device::Device& device_;
  std::vector<Array> arrays_;
  std::array<std::size_t, kNLayouts> begin_bytes_{}, end_bytes_{};
  device::Buffer buffer_;
  // Empty where the device reads host memory: then the buffer itself is written.
  std::array<device::HostBuffer, 2> staging_;
  std::array<std::byte*, 2> host_{};
  std::size_t set_ = 0;
  InputLayout layout_ = InputLayout::any;

  std::size_t tables_offset_ = 0;
  std::size_t n_table_columns_ = 0;
  std::vector<std::int32_t> tables_;  // as the device has them once all is sent
  std::vector<Changed> changed_;
};

}  // namespace nereid::program
