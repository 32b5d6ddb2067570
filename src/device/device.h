// Goal: what the engine needs of a machine that runs compiled Triton kernels: memory, ordered work,
// loaded kernels.
// Non-goal: computing. A device copies bytes and launches; every number is made by a kernel.
// Rejected: streams passed around by the planner. One ordered queue a Device is what a step needs;
// overlap (copies beside compute) stays inside a backend. Nor has a Device any default: a device
// that stands before another would miss a call without a word.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "device/memory_count.h"
#include "tensor/dtype.h"

namespace nereid::device {

// An address in the device's memory. On the cpu device it is a host address.
using Address = std::uint64_t;

class Device;

// Owns a piece of device memory, 64-byte aligned; freed in the destructor.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device* device, Address address, std::size_t size_bytes)
      : device_(device), address_(address), size_bytes_(size_bytes) {}
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  Address address() const { return address_; }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  Device* device_ = nullptr;
  Address address_ = 0;
  std::size_t size_bytes_ = 0;
};

// Host memory that copies reach without a detour; freed in the destructor.
class HostBuffer {
 public:
  HostBuffer() = default;
  HostBuffer(Device* device, std::span<std::byte> bytes) : device_(device), bytes_(bytes) {}
  ~HostBuffer();
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  Device* device_ = nullptr;
  std::span<std::byte> bytes_;
};

// A point in the queue. Each backend derives its own; it dies before its device.
class Event {
 public:
  virtual ~Event() = default;
};

// Launches and copies recorded once, to be queued as one. Each backend derives its own; it dies
// before its device.
class CapturedWork {
 public:
  virtual ~CapturedWork() = default;
};

struct DeviceInfo {
  std::string name;          // "cpu", "cuda:0": as --device spells it
  std::string target;        // what bundles are made for: "cpu", "cuda:90", "hip:gfx942"
  std::string description;   // for people: "Intel Xeon, 2 threads, x86-64-v4"
  std::size_t memory_bytes;  // all of it
  int n_units;               // threads or multiprocessors: programs that run at the same time
  std::string isa = {};      // cpu: the level it runs ("x86-64-v4"); empty elsewhere
};

// One kernel argument's type, in the order of the launch.
enum class ArgType : std::uint8_t {
  pointer,
  i8,
  i16,
  i32,
  i64,
  fp16,
  bf16,
  fp32,
  fp64,
  tensor_map
};

struct ArgTypeRow {
  ArgType type;
  std::string_view name;  // as manifests spell it
  std::size_t size_bytes;
};

inline constexpr std::array<ArgTypeRow, 10> kArgTypes{{
    {ArgType::pointer, "pointer", 8},
    {ArgType::i8, "i8", 1},
    {ArgType::i16, "i16", 2},
    {ArgType::i32, "i32", 4},
    {ArgType::i64, "i64", 8},
    {ArgType::fp16, "fp16", 2},
    {ArgType::bf16, "bf16", 2},
    {ArgType::fp32, "fp32", 4},
    {ArgType::fp64, "fp64", 8},
    {ArgType::tensor_map, "tensor_map", 128},
}};

constexpr const ArgTypeRow& arg_type_row(ArgType type) {
  return kArgTypes[static_cast<std::size_t>(type)];
}

constexpr std::optional<ArgType> arg_type_from_name(std::string_view name) {
  for (const auto& row : kArgTypes)
    if (row.name == name) return row.type;
  return std::nullopt;
}

static_assert([] {
  for (std::size_t i = 0; i < kArgTypes.size(); ++i)
    if (kArgTypes[i].type != static_cast<ArgType>(i)) return false;
  return true;
}());

inline constexpr std::size_t kMaxTensorMapRank = 5;

// A matrix that a kernel copies whole tiles of in hardware. Dimensions from the outermost, as in a
// Shape.
struct TiledMatrix {
  Address address = 0;
  DType element = DType::fp16;
  std::size_t rank = 0;
  std::array<std::int64_t, kMaxTensorMapRank> shape{};    // elements outside of it are read as 0
  std::array<std::int64_t, kMaxTensorMapRank> strides{};  // in elements; the last is 1
  std::array<std::uint32_t, kMaxTensorMapRank> box{};     // what one copy takes
  int swizzle_bytes = 0;                                  // how it lies in shared memory
};

// What a driver makes of it: the value of a tensor_map argument.
struct alignas(128) TensorMap {
  std::array<std::byte, 128> bytes{};
};

// A compiled kernel as a bundle hands it over. `object` is a cubin, an hsaco or a shared object.
struct KernelImage {
  std::string symbol;
  std::string object_path;            // the file behind `object`, for loaders that take only paths
  std::span<const std::byte> object;  // verified bytes of that file
  std::vector<ArgType> args;
  std::uint32_t n_threads = 1;     // per program: 32 * num_warps on NVIDIA
  std::uint32_t shared_bytes = 0;  // dynamic shared memory of a program
  std::size_t arena_bytes = 0;     // cpu: scratch a worker thread needs
  std::uint32_t global_scratch_bytes =
      0;                 // per program; nonzero is an Error where a backend lacks it
  std::string isa = {};  // cpu: the level the object was compiled for
  // cuda: it waits itself for the kernel before it, and so may be started early.
  bool programmatic_launch = false;
  bool cooperative = false;        // cuda: all programs of a launch must run at the same time
  std::uint32_t cluster_size = 1;  // cuda: programs that share their memory, along x
};

// A kernel loaded into a device; each backend derives its own. Lives until the device dies.
struct Function {
  const Device* device = nullptr;  // whose it is; set where a kernel can take tensor maps

 protected:
  ~Function() = default;
};

struct Grid {
  std::uint32_t x = 1, y = 1, z = 1;
};

// One launch. params[i] points at the storage of argument i (a driver's own convention), so that a
// plan patches sizes in place and launches again.
struct Launch {
  const Function* function = nullptr;
  Grid grid;
  void* const* params = nullptr;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;

  // `what` names the use in the out-of-memory Error: "KV cache".
  virtual Buffer allocate(std::size_t size_bytes, const std::string& what) = 0;
  virtual std::size_t free_bytes() const = 0;
  // Of what allocate() gave out, and of memory of the device's own beside it.
  virtual MemoryCount memory_count() const = 0;
  // That all of a buffer is about to be written, and then read again and again: worth large pages.
  virtual void prefer_large_pages(const Buffer& buffer) = 0;

  // All of these are ordered after the work already queued. `upload` may return before it is done,
  // but has read `source`; `download` returns when `target` is filled.
  virtual void upload(Address target, std::span<const std::byte> source) = 0;
  virtual void download(std::span<std::byte> target, Address source) = 0;
  virtual void fill_zero(Address target, std::size_t size_bytes) = 0;
  virtual void launch(const Launch& launch) = 0;
  virtual void synchronize() = 0;

  // Copies that only queue: `host` lies in a HostBuffer of this device and is left alone until they
  // are done.
  virtual HostBuffer allocate_host(std::size_t size_bytes, const std::string& what) = 0;
  virtual void queue_upload(Address target, std::span<const std::byte> host) = 0;
  virtual void queue_download(std::span<std::byte> host, Address source) = 0;

  virtual std::unique_ptr<Event> make_event() = 0;
  virtual void record(Event& event) = 0;
  virtual void wait(const Event& event) = 0;  // until all that was queued before record() is done
  // Of two that were waited for.
  virtual double ms_between(const Event& begin, const Event& end) = 0;

  // What `work` queues is recorded and not done: launches, queued copies, fill_zero; nothing else
  // may be asked of the device meanwhile. Only where can_capture() is true.
  virtual bool can_capture() const = 0;
  virtual std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) = 0;
  virtual void replay(const CapturedWork& work) = 0;

  // The memory of this device is also that of kernels which run on `peer`: another rank of a model.
  // An Error where `peer` does not reach it.
  virtual void admit(const DeviceInfo& peer) = 0;

  // True where kernels can read host memory in place: large weights are then used where the file
  // is mapped.
  virtual bool reads_host_memory() const = 0;

  // An Error names the symbol and why the object does not fit this device.
  virtual const Function* load(const KernelImage& image) = 0;

  // An Error where the device has none, or cannot read the matrix in this way.
  virtual TensorMap tensor_map(const TiledMatrix& matrix) const = 0;

 protected:
  friend class Buffer;
  friend class HostBuffer;
  virtual void release(Address address, std::size_t size_bytes) noexcept = 0;
  virtual void release_host(std::span<std::byte> bytes) noexcept = 0;
};

}  // namespace nereid::device
