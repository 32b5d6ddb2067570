// Goal: a device that runs nothing and remembers what it was asked: planning and tests for any
// target, on any machine.
// Non-goal: results. Downloads give zeros; a test that needs numbers needs the cpu device.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/synchronous_device.h"

namespace nereid::device {

enum class NullOperation : std::uint8_t {
  allocate,
  release,
  upload,
  download,
  fill_zero,
  launch,
  load
};

struct NullEvent {
  NullOperation operation;
  std::string name;     // load and launch: the symbol; allocate: what for
  Address address = 0;  // memory operations
  std::size_t size_bytes = 0;
  Grid grid;  // launch
  // launch: argument i as it was, sign-extended; floats as the bits of a double.
  std::vector<std::int64_t> args;
  std::vector<TensorMap> maps;  // launch: of the arguments that are one, in order
};

class NullDevice final : public SynchronousDevice {
 public:
  // `target` is any target a bundle can be made for; `memory_bytes` is what it pretends to have.
  explicit NullDevice(std::string target = "cpu", std::size_t memory_bytes = std::size_t{1} << 40,
                      int n_units = 1);
  ~NullDevice() override;

  const DeviceInfo& info() const override { return info_; }
  Buffer allocate(std::size_t size_bytes, const std::string& what) override;
  std::size_t free_bytes() const override {
    return info_.memory_bytes - memory_.count().allocated_bytes;
  }
  MemoryCount memory_count() const override { return memory_.count(); }
  void upload(Address target, std::span<const std::byte> source) override;
  void download(std::span<std::byte> target, Address source) override;
  void fill_zero(Address target, std::size_t size_bytes) override;
  void launch(const Launch& launch) override;
  bool reads_host_memory() const override { return false; }
  const Function* load(const KernelImage& image) override;
  // Begins with the address and the shape, for tests to see.
  TensorMap tensor_map(const TiledMatrix& matrix) const override;

  const std::vector<NullEvent>& log() const { return log_; }

 protected:
  void release(Address address, std::size_t size_bytes) noexcept override;

 private:
  struct Loaded;
  DeviceInfo info_;
  MemoryCounter memory_;
  Address next_address_;
  std::vector<NullEvent> log_;
  std::vector<std::unique_ptr<Loaded>> functions_;
};

}  // namespace nereid::device
