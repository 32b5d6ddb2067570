// Goal: an NVIDIA GPU through its driver alone: kernels are cubins, work is queued on one stream,
// uploads go through pinned memory so that they overlap what follows.
// Non-goal: several streams; how several GPUs share a model (program/parallel_program.h).
// Rejected: the CUDA runtime library: it adds a toolkit to install and nothing that we use.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "device/cuda/capture.h"
#include "device/cuda/driver_api.h"
#include "device/cuda/kernel.h"
#include "device/cuda/memory.h"
#include "device/cuda/session.h"
#include "device/cuda/staging.h"
#include "device/device.h"

namespace nereid::device {

class CudaDevice final : public Device {
 public:
  // An Error says why the GPU cannot be used: no driver, no such device.
  explicit CudaDevice(int ordinal,
                      std::shared_ptr<const cuda::DriverApi> api = cuda::DriverApi::load());
  ~CudaDevice() override;
  // Whether this machine has a driver that sees a GPU; why not, only opening says.
  static bool is_present();

  const DeviceInfo& info() const override { return info_; }
  Buffer allocate(std::size_t size_bytes, const std::string& what) override;
  std::size_t free_bytes() const override;
  MemoryCount memory_count() const override { return count_.count(); }
  void prefer_large_pages(const Buffer&) override {}  // its pages are large
  void upload(Address target, std::span<const std::byte> source) override;
  void download(std::span<std::byte> target, Address source) override;
  void fill_zero(Address target, std::size_t size_bytes) override;
  void launch(const Launch& launch) override;
  void synchronize() override;
  bool reads_host_memory() const override { return false; }
  const Function* load(const KernelImage& image) override;
  TensorMap tensor_map(const TiledMatrix& matrix) const override;
  void admit(const DeviceInfo& peer) override;

  HostBuffer allocate_host(std::size_t size_bytes, const std::string& what) override;
  void queue_upload(Address target, std::span<const std::byte> host) override;
  void queue_download(std::span<std::byte> host, Address source) override;
  std::unique_ptr<Event> make_event() override;
  void record(Event& event) override;
  void wait(const Event& event) override;
  double ms_between(const Event& begin, const Event& end) override;
  bool can_capture() const override { return true; }
  std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) override;
  void replay(const CapturedWork& work) override;

 protected:
  void release(Address address, std::size_t size_bytes) noexcept override;
  void release_host(std::span<std::byte> bytes) noexcept override;

 private:
  void describe();
  // Calls that wait or allocate end a capture with an error of the driver's; here they are a bug.
  void check_not_capturing(const char* what) const;

  cuda::Session session_;
  DeviceInfo info_;
  cuda::Limits limits_;
  cuda::Memory memory_;
  MemoryCounter count_;
  cuda::Staging staging_;
  std::vector<std::unique_ptr<cuda::LoadedKernel>> functions_;
  cuda::CapturedGraph* capturing_ = nullptr;
};

}  // namespace nereid::device
