// Goal: an NVIDIA GPU through its driver alone: kernels are cubins, work is queued on one stream,
// uploads go through pinned memory so that they overlap what follows.
// Non-goal: several streams; multi-GPU.
// Rejected: the CUDA runtime library: it adds a toolkit to install and nothing that we use.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "device/cuda/driver_api.h"
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
  void upload(Address target, std::span<const std::byte> source) override;
  void download(std::span<std::byte> target, Address source) override;
  void fill_zero(Address target, std::size_t size_bytes) override;
  void launch(const Launch& launch) override;
  void synchronize() override;
  bool reads_host_memory() const override { return false; }
  const Function* load(const KernelImage& image) override;

 protected:
  void release(Address address, std::size_t size_bytes) noexcept override;

 private:
  struct Loaded;
  // Uploads alternate between two pinned pieces: one is filled while the other is sent.
  struct Staging {
    std::byte* memory = nullptr;
    cuda::Event sent = nullptr;
    bool is_busy = false;
  };

  // Calls the driver; its failure is an Error.
  template <typename... Params, typename... Args>
  void call(const cuda::DriverFunction<cuda::Result(Params...)>& function, Args... args) const {
    check(function(args...), function.symbol);
  }
  void check(cuda::Result result, const char* symbol) const;
  void open();
  void describe_device();
  void close() noexcept;
  void make_current() const;
  void check_fits(const KernelImage& image) const;
  void load_into(Loaded& kernel, const KernelImage& image);
  int attribute(int which) const;

  std::shared_ptr<const cuda::DriverApi> api_;
  int ordinal_;
  DeviceInfo info_;
  int driver_version_ = 0;  // CUDA 12.4 is 12040
  cuda::DeviceHandle device_ = 0;
  cuda::Context context_ = nullptr;
  cuda::Stream stream_ = nullptr;
  std::array<Staging, 2> staging_;
  std::size_t next_staging_ = 0;
  std::size_t shared_limit_bytes_ = 0;  // of one program
  std::uint32_t max_threads_ = 0;       // of one program
  std::vector<std::unique_ptr<Loaded>> functions_;
  const Loaded* last_launched_ = nullptr;  // an error that arrives later is named after it
};

}  // namespace nereid::device
