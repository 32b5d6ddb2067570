// Memory of the device and of the host, and copies between them.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "null/cuda_stand_in/state.h"

namespace nereid::device::cuda {

Result cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  ENTER(context);
  *free = control().memory_bytes;
  for (const auto& [handle, pool] : state().pools) *free -= pool->reserved_bytes;
  *total = control().memory_bytes;
  return 0;
}

Result cuMemPoolCreate(MemoryPool* pool, const PoolProperties* wanted) {
  ENTER_OUTSIDE_CAPTURE();
  PoolProperties expected{};
  expected.allocation_type = kAllocationPinned;
  expected.location_type = kLocationDevice;
  expected.location_id = wanted->location_id;
  if (!is_device(wanted->location_id) || std::memcmp(wanted, &expected, sizeof(expected)) != 0)
    return violation(__func__, "properties", kInvalidValue);
  auto made = std::make_unique<MemoryPoolTag>();
  made->device = wanted->location_id;
  *pool = made.get();
  state().pools[*pool] = std::move(made);
  return 0;
}

Result cuMemPoolDestroy(MemoryPool pool) {
  ONE_AT_A_TIME();
  const Result result = enter(__func__, Needs::context);
  if (state().pools.erase(pool) == 0) return violation(__func__, "pool", kInvalidHandle);
  return result;
}

Result cuMemPoolGetAttribute(MemoryPool pool, int attribute, void* value) {
  ENTER(context);
  if (!state().pools.contains(pool)) return violation(__func__, "pool", kInvalidHandle);
  if (attribute != kPoolReservedBytes && attribute != kPoolUsedBytes)
    return violation(__func__, "attribute", kInvalidValue);
  *static_cast<std::uint64_t*>(value) =
      attribute == kPoolReservedBytes ? pool->reserved_bytes : pool->used_bytes;
  return 0;
}

Result cuMemPoolSetAttribute(MemoryPool pool, int attribute, void* value) {
  ENTER(context);
  if (!state().pools.contains(pool)) return violation(__func__, "pool", kInvalidHandle);
  if (attribute != kPoolReleaseThreshold) return violation(__func__, "attribute", kInvalidValue);
  pool->release_threshold = *static_cast<const std::uint64_t*>(value);
  return 0;
}

Result cuMemPoolSetAccess(MemoryPool pool, const AccessDescription* accesses, std::size_t n) {
  ENTER(context);
  if (!state().pools.contains(pool)) return violation(__func__, "pool", kInvalidHandle);
  for (std::size_t i = 0; i < n; ++i) {
    if (accesses[i].location_type != kLocationDevice || accesses[i].access != kAccessReadWrite ||
        !is_device(accesses[i].location_id))
      return violation(__func__, "access", kInvalidValue);
    control().admitted.emplace_back(pool->device, accesses[i].location_id);
  }
  return 0;
}

Result cuMemAllocFromPoolAsync(std::uint64_t* address, std::size_t bytes, MemoryPool pool,
                               Stream stream) {
  ENTER_OUTSIDE_CAPTURE();
  if (!state().pools.contains(pool) || !state().streams.contains(stream))
    return violation(__func__, "handle", kInvalidHandle);
  if (bytes == 0) return violation(__func__, "no bytes", kInvalidValue);
  if (bytes > control().memory_bytes - pool->used_bytes) return kOutOfMemory;
  void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(memory, 0xcd, bytes);
  *address = reinterpret_cast<std::uint64_t>(memory);
  state().memory[*address] = bytes;
  state().memory_of_work[*address] = bytes;
  pool->used_bytes += bytes;
  pool->reserved_bytes = std::max(pool->reserved_bytes, pool->used_bytes);
  return 0;
}

// In the order of the stream: what is queued before it still finds the memory.
Result cuMemFreeAsync(std::uint64_t address, Stream stream) {
  ONE_AT_A_TIME();
  const Result result = enter(__func__, Needs::context);
  const auto found = state().memory.find(address);
  if (found == state().memory.end()) return violation(__func__, "address", kInvalidValue);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (stream->is_capturing) return violation(__func__, "within a capture", kCaptureUnsupported);
  for (const auto& [handle, pool] : state().pools) pool->used_bytes -= found->second;
  state().memory.erase(found);
  stream->work.emplace_back([address] {
    state().memory_of_work.erase(address);
    std::free(bytes_at(address));
  });
  ++stream->n_queued;
  return result;
}

Result cuMemsetD8Async(std::uint64_t address, unsigned char value, std::size_t bytes,
                       Stream stream) {
  ENTER(context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (bytes == 0 || !covers(state().memory, address, bytes))
    return violation(__func__, "range", kInvalidValue);
  queue(stream, [=](bool) {
    if (is_alive("cuMemsetD8Async", address, bytes)) std::memset(bytes_at(address), value, bytes);
  });
  return 0;
}

Result cuMemcpyHtoDAsync_v2(std::uint64_t target, const void* source, std::size_t bytes,
                            Stream stream) {
  ENTER(context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (bytes == 0 || !covers(state().memory, target, bytes))
    return violation(__func__, "range", kInvalidValue);
  if (!covers(state().pinned, const_cast<void*>(source), bytes))
    return violation(__func__, "the source is not pinned", kInvalidValue);
  queue(stream, [=](bool) {
    if (is_alive("cuMemcpyHtoDAsync", target, bytes)) std::memcpy(bytes_at(target), source, bytes);
  });
  return 0;
}

Result cuMemcpyDtoHAsync_v2(void* target, std::uint64_t source, std::size_t bytes, Stream stream) {
  ENTER(context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (target == nullptr || bytes == 0 || !covers(state().memory, source, bytes))
    return violation(__func__, "range", kInvalidValue);
  const bool is_pinned = covers(state().pinned, target, bytes);
  if (stream->is_capturing && !is_pinned)
    return violation(__func__, "a captured copy to memory that is not pinned", kInvalidValue);
  queue(stream, [=](bool) {
    if (is_alive("cuMemcpyDtoHAsync", source, bytes)) std::memcpy(target, bytes_at(source), bytes);
  });
  // As documented: into memory that is not pinned it returns when the copy is done.
  if (!is_pinned) run_until(*stream, stream->n_queued);
  return 0;
}

Result cuMemHostAlloc(void** memory, std::size_t bytes, unsigned flags) {
  ENTER_OUTSIDE_CAPTURE();
  if (bytes == 0 || flags != 0) return violation(__func__, "arguments", kInvalidValue);
  *memory = std::malloc(bytes);
  state().pinned[*memory] = bytes;
  return 0;
}

Result cuMemFreeHost(void* memory) {
  ONE_AT_A_TIME();
  const Result result = enter(__func__, Needs::context);
  run_all();
  if (state().pinned.erase(memory) == 0) return violation(__func__, "address", kInvalidValue);
  std::free(memory);
  return result;
}

}  // namespace nereid::device::cuda
