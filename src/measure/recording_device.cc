#include "measure/recording_device.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"

namespace nereid::measure {

struct RecordingDevice::Recorded final : device::Function {
  Recorded(const device::Function* inner_function, std::uint32_t object_index)
      : inner(inner_function), object(object_index) {
    device = inner->device;  // tensor maps are made by the device itself
  }
  const device::Function* inner;
  std::uint32_t object;
};

struct RecordingDevice::Captured final : device::CapturedWork {
  std::unique_ptr<device::CapturedWork> inner;
  std::vector<std::uint32_t> objects;  // of its launches
};

RecordingDevice::RecordingDevice(std::unique_ptr<device::Device> device, bool may_capture)
    : device_(std::move(device)), may_capture_(may_capture) {}

RecordingDevice::~RecordingDevice() = default;

void RecordingDevice::start_trace() {
  synchronize();
  trace_.clear();
  trace_begin_ = make_event();
  record(*trace_begin_);
  is_tracing_ = true;
}

std::vector<LaunchRecord> RecordingDevice::end_trace() {
  is_tracing_ = false;
  synchronize();
  constexpr double kUsPerMs = 1e3;
  std::vector<LaunchRecord> records;
  records.reserve(trace_.size());
  if (!trace_.empty()) wait(*trace_begin_);
  for (const auto& timed : trace_) {
    wait(*timed.begin);
    wait(*timed.end);
    records.push_back({timed.object, timed.grid, kUsPerMs * ms_between(*trace_begin_, *timed.begin),
                       kUsPerMs * ms_between(*timed.begin, *timed.end)});
  }
  trace_.clear();
  return records;
}

device::Buffer RecordingDevice::allocate(std::size_t size_bytes, const std::string& what) {
  auto buffer = device_->allocate(size_bytes, what);
  const auto address = buffer.address();
  if (size_bytes == 0) return {this, address, 0};
  buffers_[address] = std::move(buffer);
  return {this, address, size_bytes};
}

void RecordingDevice::prefer_large_pages(const device::Buffer& buffer) {
  if (buffer.size_bytes() > 0) device_->prefer_large_pages(buffers_.at(buffer.address()));
}

void RecordingDevice::release(device::Address address, std::size_t size_bytes) noexcept {
  if (size_bytes == 0) return;
  buffers_.erase(address);
}

void RecordingDevice::launch(const device::Launch& launch) {
  const auto& function = static_cast<const Recorded&>(*launch.function);
  device::Launch inner = launch;
  inner.function = function.inner;
  if (capturing_ != nullptr) {
    capturing_->push_back(function.object);
    device_->launch(inner);
    return;
  }
  ++n_launches_;
  ++objects_[function.object].n_launches;
  if (!is_tracing_) {
    device_->launch(inner);
    return;
  }
  Timed timed{function.object, launch.grid, make_event(), make_event()};
  record(*timed.begin);
  device_->launch(inner);
  record(*timed.end);
  trace_.push_back(std::move(timed));
}

std::unique_ptr<device::CapturedWork> RecordingDevice::capture(const std::function<void()>& work) {
  auto captured = std::make_unique<Captured>();
  capturing_ = &captured->objects;
  try {
    captured->inner = device_->capture(work);
  } catch (...) {
    capturing_ = nullptr;
    throw;
  }
  capturing_ = nullptr;
  return captured;
}

void RecordingDevice::replay(const device::CapturedWork& work) {
  const auto& captured = static_cast<const Captured&>(work);
  n_launches_ += captured.objects.size();
  for (const auto object : captured.objects) ++objects_[object].n_launches;
  device_->replay(*captured.inner);
}

const device::Function* RecordingDevice::load(const device::KernelImage& image) {
  const auto* inner = device_->load(image);
  const auto index = static_cast<std::uint32_t>(objects_.size());
  objects_.push_back({image.symbol, image.object_path, sha256_hex(image.object)});
  functions_.push_back(std::make_unique<Recorded>(inner, index));
  return functions_.back().get();
}

}  // namespace nereid::measure
