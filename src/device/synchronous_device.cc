#include "device/synchronous_device.h"

#include <chrono>
#include <cstdlib>
#include <new>

#include "base/error.h"

namespace nereid::device {

namespace {

using EventClock = std::chrono::steady_clock;

constexpr std::size_t kHostAlignmentBytes = 64;

struct HostEvent final : Event {
  EventClock::time_point time;
};

}  // namespace

HostBuffer SynchronousDevice::allocate_host(std::size_t size_bytes, const std::string& what) {
  const auto rounded_bytes =
      (size_bytes + kHostAlignmentBytes - 1) / kHostAlignmentBytes * kHostAlignmentBytes;
  void* memory =
      rounded_bytes == 0 ? nullptr : std::aligned_alloc(kHostAlignmentBytes, rounded_bytes);
  if (memory == nullptr && rounded_bytes > 0)
    throw Error(ErrorCode::device, "out of memory for {}: asked for {} bytes", what, size_bytes);
  return {this, {static_cast<std::byte*>(memory), size_bytes}};
}

void SynchronousDevice::release_host(std::span<std::byte> bytes) noexcept {
  std::free(bytes.data());
}

void SynchronousDevice::queue_upload(Address target, std::span<const std::byte> host) {
  upload(target, host);
}

void SynchronousDevice::queue_download(std::span<std::byte> host, Address source) {
  download(host, source);
}

std::unique_ptr<Event> SynchronousDevice::make_event() { return std::make_unique<HostEvent>(); }

void SynchronousDevice::record(Event& event) {
  static_cast<HostEvent&>(event).time = EventClock::now();
}

double SynchronousDevice::ms_between(const Event& begin, const Event& end) {
  return std::chrono::duration<double, std::milli>(static_cast<const HostEvent&>(end).time -
                                                   static_cast<const HostEvent&>(begin).time)
      .count();
}

TensorMap SynchronousDevice::tensor_map(const TiledMatrix&) const {
  throw Error("{} has no tensor maps; the kernel was compiled for another device", info().name);
}

std::unique_ptr<CapturedWork> SynchronousDevice::capture(const std::function<void()>&) {
  NEREID_UNREACHABLE("{} cannot capture", info().name);
}

void SynchronousDevice::replay(const CapturedWork&) {
  NEREID_UNREACHABLE("{} cannot capture", info().name);
}

}  // namespace nereid::device
