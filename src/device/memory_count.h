// Goal: how much memory a device has given out, now and at most: threads may ask at the same time.
// Non-goal: where it comes from, and what a driver takes for itself.
#pragma once

#include <algorithm>
#include <cstddef>
#include <mutex>

namespace nereid::device {

struct MemoryCount {
  std::size_t allocated_bytes = 0;
  std::size_t peak_bytes = 0;  // since the device was opened
};

class MemoryCounter {
 public:
  void add(std::size_t n_bytes) {
    const std::lock_guard lock(mutex_);
    count_.allocated_bytes += n_bytes;
    count_.peak_bytes = std::max(count_.peak_bytes, count_.allocated_bytes);
  }
  void subtract(std::size_t n_bytes) {
    const std::lock_guard lock(mutex_);
    count_.allocated_bytes -= n_bytes;
  }
  MemoryCount count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  mutable std::mutex mutex_;
  MemoryCount count_;
};

}  // namespace nereid::device
