#include "device/cuda/memory.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace nereid::device::cuda {

Memory::Memory(Session& session) : session_(session) {
  const auto& api = session_.api();
  session_.call(api.device_total_memory, &total_bytes_, session_.device());
  PoolProperties wanted{};
  wanted.allocation_type = kAllocationPinned;
  wanted.location_type = kLocationDevice;
  wanted.location_id = session_.device();
  session_.call(api.pool_create, &pool_, &wanted);
  // Nothing goes back to the driver while the device is open: steps neither wait nor map memory.
  std::uint64_t keep_all = ~std::uint64_t{0};
  if (const auto result = api.pool_set(pool_, kPoolReleaseThreshold, &keep_all); result != 0) {
    api.pool_destroy(pool_);
    session_.check(result, api.pool_set.symbol);
  }
}

Memory::~Memory() {
  session_.make_current_to_close();
  session_.api().pool_destroy(pool_);
}

void Memory::admit(int ordinal) {
  const auto& api = session_.api();
  DeviceHandle peer = 0;
  session_.call(api.device_get, &peer, ordinal);
  if (peer == session_.device()) return;
  int can_access = 0;
  session_.call(api.can_access_peer, &can_access, peer, session_.device());
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorCode::device,
                "cuda:{} does not reach the memory of {} ({}): expected GPUs of one host with a "
                "link between them, as `nvidia-smi topo -p2p rw` shows it; use one of them, or a "
                "replica each",
                ordinal, session_.name(), why);
  };
  if (can_access == 0) refuse("the driver has no peer access for the two");
  const AccessDescription access{kLocationDevice, peer, kAccessReadWrite};
  if (const auto result = api.pool_set_access(pool_, &access, 1); result != 0)
    refuse(fmt::format("{} failed: {}", api.pool_set_access.symbol, api.describe(result)));
}

std::uint64_t Memory::allocate(std::size_t size_bytes, const std::string& what) {
  session_.make_current();
  const auto& api = session_.api();
  std::uint64_t address = 0;
  const auto result =
      api.memory_allocate(&address, std::max<std::size_t>(size_bytes, 1), pool_, session_.stream());
  if (result == kOutOfMemory) {
    std::size_t free_now = 0;
    const char* failed_symbol = nullptr;
    ask_free(free_now, failed_symbol);  // its failure must not hide this one
    throw Error(ErrorCode::device,
                "out of memory for {}: asked for {} bytes, free {} of {} bytes on {}", what,
                size_bytes, free_now, total_bytes_, session_.name());
  }
  session_.check(result, api.memory_allocate.symbol);
  return address;
}

void Memory::release(std::uint64_t address) noexcept {
  session_.make_current_to_close();
  session_.api().memory_free(address, session_.stream());
}

std::size_t Memory::free_bytes() const {
  session_.make_current();
  std::size_t bytes = 0;
  const char* failed_symbol = nullptr;
  if (const auto result = ask_free(bytes, failed_symbol); result != 0)
    session_.check(result, failed_symbol);
  return bytes;
}

Result Memory::ask_free(std::size_t& bytes, const char*& failed_symbol) const {
  const auto& api = session_.api();
  std::size_t free = 0;
  std::size_t total = 0;
  std::uint64_t reserved = 0;
  std::uint64_t used = 0;
  bytes = 0;
  failed_symbol = api.memory_info.symbol;
  if (const auto result = api.memory_info(&free, &total); result != 0) return result;
  failed_symbol = api.pool_get.symbol;
  for (const auto& [attribute, value] :
       {std::pair{kPoolReservedBytes, &reserved}, std::pair{kPoolUsedBytes, &used}})
    if (const auto result = api.pool_get(pool_, attribute, value); result != 0) return result;
  bytes = free + static_cast<std::size_t>(reserved - std::min(reserved, used));
  return 0;
}

}  // namespace nereid::device::cuda
