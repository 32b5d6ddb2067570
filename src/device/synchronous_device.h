// Goal: what devices share that work on their caller's thread and memory: nothing waits in a queue,
// so that copies are done when they return, an event is the clock's time, and nothing is captured.
// Non-goal: where the memory comes from, and what a launch does.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "device/device.h"

namespace nereid::device {

class SynchronousDevice : public Device {
 public:
  void prefer_large_pages(const Buffer&) override {}
  void synchronize() override {}

  HostBuffer allocate_host(std::size_t size_bytes, const std::string& what) override;
  void queue_upload(Address target, std::span<const std::byte> host) override;
  void queue_download(std::span<std::byte> host, Address source) override;

  std::unique_ptr<Event> make_event() override;
  void record(Event& event) override;
  void wait(const Event&) override {}
  double ms_between(const Event& begin, const Event& end) override;

  bool can_capture() const override { return false; }
  std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) override;
  void replay(const CapturedWork& work) override;

  void admit(const DeviceInfo&) override {}  // all memory is the process's own

  TensorMap tensor_map(const TiledMatrix& matrix) const override;

 protected:
  void release_host(std::span<std::byte> bytes) noexcept override;
};

}  // namespace nereid::device
