#include <utility>

#include "device/device.h"

namespace nereid::device {

Buffer::~Buffer() {
  if (device_ != nullptr) device_->release(address_, size_bytes_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      address_(std::exchange(other.address_, 0)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    if (device_ != nullptr) device_->release(address_, size_bytes_);
    device_ = std::exchange(other.device_, nullptr);
    address_ = std::exchange(other.address_, 0);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

HostBuffer::~HostBuffer() {
  if (device_ != nullptr) device_->release_host(bytes_);
}

HostBuffer::HostBuffer(HostBuffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}

HostBuffer& HostBuffer::operator=(HostBuffer&& other) noexcept {
  if (this != &other) {
    if (device_ != nullptr) device_->release_host(bytes_);
    device_ = std::exchange(other.device_, nullptr);
    bytes_ = std::exchange(other.bytes_, {});
  }
  return *this;
}

}  // namespace nereid::device
