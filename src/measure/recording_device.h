// Goal: what a device was given to load and to launch, seen from between the engine and the device:
// the bytes of every object as the driver gets them, and each launch with its time.
// Non-goal: changing anything: every call goes on to the device behind it, so that what is measured
// is what runs without it.
// Rejected: hooks in the planner. They would see what was planned, not what was launched, and cost
// something where nobody looks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "device/device.h"

namespace nereid::measure {

// A function that was loaded.
struct LoadedObject {
  std::string symbol;
  std::string path;    // of the file that the bytes came from
  std::string sha256;  // of the bytes that were handed over, computed here
  std::uint64_t n_launches = 0;
};

struct LaunchRecord {
  std::uint32_t object;  // index in objects()
  device::Grid grid;
  double begin_us;  // since the trace began
  double time_us;
};

class RecordingDevice final : public device::Device {
 public:
  // Launches in captured work have no time of their own: who wants to trace may not capture.
  explicit RecordingDevice(std::unique_ptr<device::Device> device, bool may_capture = true);
  ~RecordingDevice() override;

  const std::vector<LoadedObject>& objects() const { return objects_; }
  std::uint64_t n_launches() const { return n_launches_; }

  // From now on each launch's time is kept, between two events of the device around it: where the
  // host is slower than the device, a part of what a launch costs the host is in it.
  void start_trace();
  // Ends that; the launches since, in order.
  std::vector<LaunchRecord> end_trace();

  const device::DeviceInfo& info() const override { return device_->info(); }
  device::Buffer allocate(std::size_t size_bytes, const std::string& what) override;
  std::size_t free_bytes() const override { return device_->free_bytes(); }
  device::MemoryCount memory_count() const override { return device_->memory_count(); }
  void prefer_large_pages(const device::Buffer& buffer) override;
  void upload(device::Address target, std::span<const std::byte> source) override {
    device_->upload(target, source);
  }
  void download(std::span<std::byte> target, device::Address source) override {
    device_->download(target, source);
  }
  void fill_zero(device::Address target, std::size_t size_bytes) override {
    device_->fill_zero(target, size_bytes);
  }
  void launch(const device::Launch& launch) override;
  void synchronize() override { device_->synchronize(); }
  device::HostBuffer allocate_host(std::size_t size_bytes, const std::string& what) override {
    return device_->allocate_host(size_bytes, what);
  }
  void queue_upload(device::Address target, std::span<const std::byte> host) override {
    device_->queue_upload(target, host);
  }
  void queue_download(std::span<std::byte> host, device::Address source) override {
    device_->queue_download(host, source);
  }
  std::unique_ptr<device::Event> make_event() override { return device_->make_event(); }
  void record(device::Event& event) override { device_->record(event); }
  void wait(const device::Event& event) override { device_->wait(event); }
  double ms_between(const device::Event& begin, const device::Event& end) override {
    return device_->ms_between(begin, end);
  }
  bool can_capture() const override { return may_capture_ && device_->can_capture(); }
  std::unique_ptr<device::CapturedWork> capture(const std::function<void()>& work) override;
  void replay(const device::CapturedWork& work) override;
  bool reads_host_memory() const override { return device_->reads_host_memory(); }
  const device::Function* load(const device::KernelImage& image) override;
  void admit(const device::DeviceInfo& peer) override { device_->admit(peer); }
  device::TensorMap tensor_map(const device::TiledMatrix& matrix) const override {
    return device_->tensor_map(matrix);
  }

 protected:
  void release(device::Address address, std::size_t size_bytes) noexcept override;
  // Never called: host buffers are the inner device's own, and go back to it.
  void release_host(std::span<std::byte>) noexcept override {}

 private:
  struct Recorded;
  struct Captured;
  struct Timed {
    std::uint32_t object;
    device::Grid grid;
    std::unique_ptr<device::Event> begin, end;
  };

  std::unique_ptr<device::Device> device_;
  bool may_capture_;
  std::vector<LoadedObject> objects_;
  std::vector<std::unique_ptr<Recorded>> functions_;
  std::unordered_map<device::Address, device::Buffer> buffers_;
  std::uint64_t n_launches_ = 0;
  std::vector<std::uint32_t>* capturing_ = nullptr;  // the objects of launches that are recorded
  bool is_tracing_ = false;
  std::unique_ptr<device::Event> trace_begin_;
  std::vector<Timed> trace_;
};

}  // namespace nereid::measure
