// Goal: a device that fails at a launch of the test's choice, or does what else the test wants
// then. Non-goal: what a real one leaves behind then; it leaves the results of the launches before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/error.h"
#include "device/device.h"

namespace nereid::device {

class FailingDevice final : public Device {
 public:
  explicit FailingDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  std::int64_t n_launches = 0;  // and replays
  std::int64_t fail_at = -1;
  std::function<void(std::int64_t n)> before_launch = {};
  std::function<void(std::span<std::byte> bytes)> on_download = {};

  const DeviceInfo& info() const override { return device_->info(); }
  Buffer allocate(std::size_t size_bytes, const std::string& what) override {
    return device_->allocate(size_bytes, what);
  }
  std::size_t free_bytes() const override { return device_->free_bytes(); }
  MemoryCount memory_count() const override { return device_->memory_count(); }
  void prefer_large_pages(const Buffer& buffer) override { device_->prefer_large_pages(buffer); }
  void upload(Address target, std::span<const std::byte> source) override {
    device_->upload(target, source);
  }
  void download(std::span<std::byte> target, Address source) override {
    device_->download(target, source);
    if (on_download) on_download(target);
  }
  void fill_zero(Address target, std::size_t size_bytes) override {
    device_->fill_zero(target, size_bytes);
  }
  void launch(const Launch& launch) override {
    count();
    device_->launch(launch);
  }
  void synchronize() override { device_->synchronize(); }
  HostBuffer allocate_host(std::size_t size_bytes, const std::string& what) override {
    return device_->allocate_host(size_bytes, what);
  }
  void queue_upload(Address target, std::span<const std::byte> host) override {
    device_->queue_upload(target, host);
  }
  void queue_download(std::span<std::byte> host, Address source) override {
    device_->queue_download(host, source);
  }
  std::unique_ptr<Event> make_event() override { return device_->make_event(); }
  void record(Event& event) override { device_->record(event); }
  void wait(const Event& event) override { device_->wait(event); }
  double ms_between(const Event& begin, const Event& end) override {
    return device_->ms_between(begin, end);
  }
  bool can_capture() const override { return device_->can_capture(); }
  std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) override {
    return device_->capture(work);
  }
  void replay(const CapturedWork& work) override {
    count();
    device_->replay(work);
  }
  bool reads_host_memory() const override { return device_->reads_host_memory(); }
  const Function* load(const KernelImage& image) override { return device_->load(image); }
  void admit(const DeviceInfo& peer) override { device_->admit(peer); }
  TensorMap tensor_map(const TiledMatrix& matrix) const override {
    return device_->tensor_map(matrix);
  }

 protected:
  // Buffers are the inner device's own, and go back to it.
  void release(Address, std::size_t) noexcept override {}
  void release_host(std::span<std::byte>) noexcept override {}

 private:
  void count() {
    if (before_launch) before_launch(n_launches);
    if (n_launches++ == fail_at)
      throw Error(ErrorCode::device, "launch {} failed, as the test asked", fail_at);
  }

  std::unique_ptr<Device> device_;
};

}  // namespace nereid::device
