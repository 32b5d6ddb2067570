// Goal: the processor as a device: kernels are shared objects (docs/formats.md, section 5), a
// launch runs its programs on a thread pool, memory is the process's own.
// Non-goal: queueing. A launch is done when it returns; there is nothing a second queue would
// overlap with.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "device/cpu/host.h"
#include "device/cpu/thread_pool.h"
#include "device/synchronous_device.h"

namespace nereid::device {

// Which of several devices that share the processor.
struct CpuShare {
  int index = 0, of = 1;
};

class CpuDevice final : public SynchronousDevice {
 public:
  // `n_threads` of all that share the processor, at least one each; 0: every cpu the process may
  // use.
  explicit CpuDevice(int n_threads = 0, const CpuShare& share = {});
  ~CpuDevice() override;

  const DeviceInfo& info() const override { return info_; }
  Buffer allocate(std::size_t size_bytes, const std::string& what) override;
  std::size_t free_bytes() const override;
  MemoryCount memory_count() const override { return memory_.count(); }
  void prefer_large_pages(const Buffer& buffer) override;
  void upload(Address target, std::span<const std::byte> source) override;
  void download(std::span<std::byte> target, Address source) override;
  void fill_zero(Address target, std::size_t size_bytes) override;
  void launch(const Launch& launch) override;
  bool reads_host_memory() const override { return true; }
  const Function* load(const KernelImage& image) override;

 protected:
  void release(Address address, std::size_t size_bytes) noexcept override;

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  using Arena = std::unique_ptr<std::byte, Free>;

  CpuDevice(int n_threads, const HostCpus& cpus, const CpuShare& share);

  void grow_arenas(std::size_t size_bytes);

  DeviceInfo info_;
  MemoryCounter memory_;         // kernels are loaded while weights are copied
  std::size_t arena_bytes_ = 0;  // of each worker
  std::vector<Arena> arenas_;
  std::vector<std::byte*> arena_addresses_;  // of arenas_, as launches take them
  struct Loaded;
  std::vector<std::unique_ptr<Loaded>> functions_;
  ThreadPool pool_;  // last: helpers stop before anything they use dies
};

}  // namespace nereid::device
