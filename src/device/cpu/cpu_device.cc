#include "device/cpu/cpu_device.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "device/cpu/host.h"
#include "device/cpu/isa.h"
#include "device/cpu/parallel_copy.h"
#include "device/registry.h"

namespace nereid::device {

namespace {

constexpr std::size_t kAlignment = 64;
// From here on memory comes straight from the kernel: it goes back when freed, and pages never
// written cost nothing.
constexpr std::size_t kMapBytes = 1 << 20;

using Entry = void (*)(const void* const* args, void* arena, std::uint32_t x, std::uint32_t y,
                       std::uint32_t z, std::uint32_t nx, std::uint32_t ny, std::uint32_t nz);

std::size_t round_up(std::size_t size_bytes, std::size_t unit) {
  return (size_bytes + unit - 1) / unit * unit;
}

int choose_n_threads(int n_threads, const HostCpus& cpus, const CpuShare& share) {
  if (n_threads < 0 || n_threads > kMaxCpuThreads)
    throw Error("number of threads: expected 0 (every cpu) to {}, got {}", kMaxCpuThreads,
                n_threads);
  const int n_all = n_threads > 0 ? n_threads : cpus.n_usable;
  return std::max(n_all / share.of, 1);
}

// Pinning helps only where each worker has a cpu of its own: those behind the shares before this.
std::vector<int> cpus_to_pin(int n_threads, const HostCpus& cpus, const CpuShare& share) {
  if (n_threads * share.of > cpus.n_usable || cpus.n_usable < static_cast<int>(cpus.ids.size()))
    return {};
  return {cpus.ids.begin() + n_threads * share.index, cpus.ids.end()};
}

struct LaunchContext {
  Entry entry;
  const void* const* args;
  std::byte* const* arenas;
  Grid grid;
};

void run_programs(void* opaque, int worker, std::uint64_t begin, std::uint64_t end) {
  const auto& launch = *static_cast<const LaunchContext*>(opaque);
  const Grid& grid = launch.grid;
  void* arena = launch.arenas[worker];
  auto x = static_cast<std::uint32_t>(begin % grid.x);
  auto y = static_cast<std::uint32_t>(begin / grid.x % grid.y);
  auto z = static_cast<std::uint32_t>(begin / grid.x / grid.y);
  for (std::uint64_t i = begin; i < end; ++i) {
    launch.entry(launch.args, arena, x, y, z, grid.x, grid.y, grid.z);
    if (++x == grid.x) {
      x = 0;
      if (++y == grid.y) {
        y = 0;
        ++z;
      }
    }
  }
}

}  // namespace

struct CpuDevice::Loaded final : Function {
  ~Loaded() {
    if (object != nullptr) ::dlclose(object);
  }
  void* object = nullptr;
  Entry entry = nullptr;
};

void CpuDevice::Free::operator()(std::byte* memory) const { std::free(memory); }

CpuDevice::CpuDevice(int n_threads, const CpuShare& share)
    : CpuDevice(choose_n_threads(n_threads, host_cpus(), share), host_cpus(), share) {}

CpuDevice::CpuDevice(int n_threads, const HostCpus& cpus, const CpuShare& share)
    : pool_(n_threads, cpus_to_pin(n_threads, cpus, share)) {
  info_.name = "cpu";
  info_.target = "cpu";
  info_.isa = host_isa();
  info_.n_units = pool_.n_workers();
  info_.memory_bytes = host_memory().total_bytes;
  info_.description = fmt::format("{}, {} thread{}, {}", host_cpu_model(), info_.n_units,
                                  info_.n_units == 1 ? "" : "s", info_.isa);
  arenas_.resize(pool_.n_workers());
  arena_addresses_.resize(arenas_.size());
}

CpuDevice::~CpuDevice() = default;

Buffer CpuDevice::allocate(std::size_t size_bytes, const std::string& what) {
  if (size_bytes == 0) return Buffer(this, 0, 0);
  const auto fail = [&] {
    throw Error(ErrorCode::device,
                "out of memory for {}: asked for {} bytes, free {} of {} bytes on {}", what,
                size_bytes, free_bytes(), info_.memory_bytes, info_.name);
  };
  // Asking the system costs a tenth of a millisecond: small pieces just fail where there is none.
  if (size_bytes >= kMapBytes && size_bytes > free_bytes()) fail();
  void* memory = nullptr;
  if (size_bytes >= kMapBytes) {
    memory = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail();
  } else {
    memory = std::aligned_alloc(kAlignment, round_up(size_bytes, kAlignment));
    if (memory == nullptr) fail();
  }
  memory_.add(size_bytes);
  return Buffer(this, reinterpret_cast<Address>(memory), size_bytes);
}

void CpuDevice::prefer_large_pages(const Buffer& buffer) {
#ifdef MADV_HUGEPAGE
  // Advice: where the system has none or is told not to, pages stay small.
  if (buffer.size_bytes() >= kMapBytes)
    (void)::madvise(reinterpret_cast<void*>(buffer.address()), buffer.size_bytes(), MADV_HUGEPAGE);
#endif
}

void CpuDevice::release(Address address, std::size_t size_bytes) noexcept {
  if (address == 0) return;
  void* memory = reinterpret_cast<void*>(address);
  if (size_bytes >= kMapBytes)
    ::munmap(memory, size_bytes);
  else
    std::free(memory);
  memory_.subtract(size_bytes);
}

std::size_t CpuDevice::free_bytes() const {
  // Pages handed out but not yet written still look available to the system, hence the second
  // bound.
  const HostMemory memory = host_memory();
  const std::size_t allocated = memory_.count().allocated_bytes;
  const std::size_t unpromised =
      memory.total_bytes > allocated ? memory.total_bytes - allocated : 0;
  return std::min(memory.available_bytes, unpromised);
}

void CpuDevice::upload(Address target, std::span<const std::byte> source) {
  parallel_copy(pool_, reinterpret_cast<std::byte*>(target), source);
}

void CpuDevice::download(std::span<std::byte> target, Address source) {
  if (!target.empty())
    std::memcpy(target.data(), reinterpret_cast<const void*>(source), target.size());
}

void CpuDevice::fill_zero(Address target, std::size_t size_bytes) {
  if (size_bytes > 0) std::memset(reinterpret_cast<void*>(target), 0, size_bytes);
}

void CpuDevice::launch(const Launch& launch) {
  const auto& function = static_cast<const Loaded&>(*launch.function);
  LaunchContext context{function.entry, launch.params, arena_addresses_.data(), launch.grid};
  const std::uint64_t plane = std::uint64_t{launch.grid.x} * launch.grid.y;
  NEREID_CHECK(plane == 0 || launch.grid.z <= UINT64_MAX / 2 / plane, "grid {} x {} x {}",
               launch.grid.x, launch.grid.y, launch.grid.z);
  pool_.run(plane * launch.grid.z, run_programs, &context);
}

const Function* CpuDevice::load(const KernelImage& image) {
  const auto where = fmt::format("kernel {} ({})", image.symbol, image.object_path);
  if (!image.isa.empty() && !isa_runs(info_.isa, image.isa))
    throw Error("{}: compiled for {}, but this processor is {}; compile the bundle on this machine",
                where, image.isa, info_.isa);
  if (image.global_scratch_bytes != 0)
    throw Error("{}: needs {} bytes of global scratch; the cpu device has none", where,
                image.global_scratch_bytes);
  auto function = std::make_unique<Loaded>();
  // A path without a slash would be looked for in the system's library folders.
  const std::string path = image.object_path.find('/') == std::string::npos
                               ? "./" + image.object_path
                               : image.object_path;
  function->object = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (function->object == nullptr) {
    const char* reason = ::dlerror();
    throw Error(ErrorCode::device, "{}: cannot be loaded: {}", where,
                reason != nullptr ? reason : "unknown reason");
  }
  function->entry = reinterpret_cast<Entry>(::dlsym(function->object, image.symbol.c_str()));
  if (function->entry == nullptr)
    throw Error("{}: the object has no symbol \"{}\"", where, image.symbol);
  grow_arenas(image.arena_bytes);
  functions_.push_back(std::move(function));
  return functions_.back().get();
}

void CpuDevice::grow_arenas(std::size_t size_bytes) {
  if (size_bytes <= arena_bytes_) return;
  const std::size_t n_bytes = round_up(size_bytes, 4096);
  const std::size_t free = free_bytes();
  if (n_bytes > free / arenas_.size())
    throw Error(ErrorCode::device,
                "out of memory for the scratch of {} threads: asked for {} bytes each, free {}",
                arenas_.size(), n_bytes, free);
  for (auto& arena : arenas_) {
    arena.reset(static_cast<std::byte*>(std::aligned_alloc(4096, n_bytes)));
    if (arena == nullptr)
      throw Error(ErrorCode::device,
                  "out of memory for the scratch of {} threads: asked for {} bytes each",
                  arenas_.size(), n_bytes);
  }
  std::transform(arenas_.begin(), arenas_.end(), arena_addresses_.begin(),
                 [](const Arena& arena) { return arena.get(); });
  memory_.subtract(arena_bytes_ * arenas_.size());
  memory_.add(n_bytes * arenas_.size());
  arena_bytes_ = n_bytes;
}

}  // namespace nereid::device
