#include "device/cuda/kernel.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/error.h"

namespace nereid::device::cuda {

namespace {

// A launch has this much dynamic shared memory without asking.
constexpr std::uint32_t kDefaultSharedBytes = 48 * 1024;
// Clusters beyond this size run on some GPUs only, and only where a kernel asks.
constexpr std::uint32_t kPortableClusterSize = 8;
// Triton's kernels take two pointers after their own arguments: global and profile scratch.
constexpr std::size_t kNScratchParams = 2;
// Drivers before CUDA 12.3 cannot capture a programmatic launch; without the attribute the kernel
// just starts when the one before it has ended.
constexpr int kProgrammaticDriver = 12030;
constexpr std::string_view kElfMagic =
    "\x7f"
    "ELF";

std::string where_of(const KernelImage& image) {
  return fmt::format("kernel {} ({})", image.symbol, image.object_path);
}

void check_fits(const std::string& device_name, const Limits& limits, const KernelImage& image) {
  const auto where = where_of(image);
  if (image.global_scratch_bytes != 0)
    throw Error("{}: needs {} bytes of global scratch; the cuda device has none", where,
                image.global_scratch_bytes);
  if (image.shared_bytes > limits.shared_bytes)
    throw Error("{}: needs {} bytes of shared memory a program, {} has {}", where,
                image.shared_bytes, device_name, limits.shared_bytes);
  if (image.n_threads > limits.max_threads)
    throw Error("{}: needs {} threads a program, {} has {}", where, image.n_threads, device_name,
                limits.max_threads);
  // The driver takes anything else for PTX text without an end.
  if (image.object.size() < kElfMagic.size() ||
      std::memcmp(image.object.data(), kElfMagic.data(), kElfMagic.size()) != 0)
    throw Error("{}: expected a cubin, got {} bytes of something else", where, image.object.size());
}

}  // namespace

LoadedKernel::LoadedKernel(Session& session, const Limits& limits, const KernelImage& image)
    : session_(session) {
  check_fits(session_.name(), limits, image);
  session_.make_current();
  try {
    load(limits, image);
  } catch (...) {
    unload();
    throw;
  }
}

void LoadedKernel::load(const Limits& limits, const KernelImage& image) {
  const auto& api = session_.api();
  const auto loaded = api.module_load(&module_, image.object.data());
  if (loaded == kNoBinaryForDevice)
    throw Error("{}: compiled for another GPU; expected a bundle for {}", where_of(image),
                limits.target);
  if (loaded != 0)
    throw Error(ErrorCode::device,
                "{}: {}: {} failed: {}; the driver is for CUDA {}, the bundle must be for {}",
                session_.name(), where_of(image), api.module_load.symbol, api.describe(loaded),
                version_text(session_.driver_version()), limits.target);
  symbol_ = image.symbol;
  n_threads_ = image.n_threads;
  shared_bytes_ = image.shared_bytes;
  cluster_size_ = image.cluster_size;
  n_args_ = image.args.size();
  params_.assign(n_args_ + kNScratchParams, &no_scratch_);
  if (const auto found = api.module_function(&handle_, module_, image.symbol.c_str()); found != 0)
    throw Error(ErrorCode::device, "{}: {}: {} failed: {}", session_.name(), where_of(image),
                api.module_function.symbol, api.describe(found));
  if (shared_bytes_ > kDefaultSharedBytes)
    session_.call(api.function_set_attribute, handle_, kFunctionMaxDynamicSharedBytes,
                  static_cast<int>(shared_bytes_));
  if (cluster_size_ > kPortableClusterSize)
    session_.call(api.function_set_attribute, handle_, kFunctionNonPortableCluster, 1);
  set_attributes(image);
}

void LoadedKernel::set_attributes(const KernelImage& image) {
  const auto add = [this](std::uint32_t id, std::uint32_t x, std::uint32_t y, std::uint32_t z) {
    attributes_[n_attributes_++] = {id, 0, {x, y, z}};
  };
  if (image.programmatic_launch && session_.driver_version() >= kProgrammaticDriver)
    add(kLaunchProgrammatic, 1, 0, 0);
  if (image.cooperative) add(kLaunchCooperative, 1, 0, 0);
  if (image.cluster_size > 1) {
    add(kLaunchCluster, image.cluster_size, 1, 1);
    add(kLaunchClusterPolicy, kClusterPolicySpread, 0, 0);
  }
}

void LoadedKernel::launch(const Grid& grid, void* const* params) const {
  std::copy_n(params, n_args_, params_.begin());
  const LaunchConfig config{{grid.x * cluster_size_, grid.y, grid.z},
                            {n_threads_, 1, 1},
                            shared_bytes_,
                            session_.stream(),
                            attributes_.data(),
                            n_attributes_};
  const auto& api = session_.api();
  if (const auto result = api.launch_kernel(&config, handle_, params_.data(), nullptr); result != 0)
    try {
      session_.check(result, api.launch_kernel.symbol);
    } catch (const Error& error) {
      throw Error(error.code(), "{}, in the launch of {} on {}x{}x{} programs", error.what(),
                  symbol_, grid.x, grid.y, grid.z);
    }
}

void LoadedKernel::unload() noexcept {
  session_.make_current_to_close();
  if (module_ != nullptr) session_.api().module_unload(module_);
}

}  // namespace nereid::device::cuda
