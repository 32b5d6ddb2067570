// Goal: device memory in the order of the queue, from a pool of this device's own: freeing waits
// for nothing, and what is freed is used again before the driver is asked for more. Non-goal:
// sharing between processes. Rejected: the driver's default pool. Other libraries of the process
// take from it, and what is free there says nothing about us.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "device/cuda/session.h"

namespace nereid::device::cuda {

class Memory {
 public:
  explicit Memory(Session& session);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // An Error says what was asked for, how much is free and how much there is.
  std::uint64_t allocate(std::size_t size_bytes, const std::string& what);
  void release(std::uint64_t address) noexcept;
  // Kernels of that GPU may read and write all of it; an Error where there is no link.
  void admit(int ordinal);
  std::size_t free_bytes() const;
  std::size_t total_bytes() const { return total_bytes_; }

 private:
  // Free for us: what the driver has, and what our pool holds and nobody uses. 0 where it cannot be
  // told.
  Result ask_free(std::size_t& bytes, const char*& failed_symbol) const;

  Session& session_;
  MemoryPool pool_ = nullptr;
  std::size_t total_bytes_ = 0;
};

}  // namespace nereid::device::cuda
