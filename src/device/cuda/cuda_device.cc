#include "device/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace nereid::device {

namespace {

constexpr std::size_t kStagingBytes = std::size_t{16} << 20;
// A launch has this much dynamic shared memory without asking.
constexpr std::uint32_t kDefaultSharedBytes = 48 * 1024;
constexpr unsigned kNonBlockingStream = 1;
constexpr unsigned kEventWithoutTiming = 2;
// Triton's kernels take two pointers after their own arguments: global and profile scratch.
constexpr std::size_t kNScratchParams = 2;
constexpr std::string_view kElfMagic =
    "\x7f"
    "ELF";

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string where_of(const KernelImage& image) {
  return fmt::format("kernel {} ({})", image.symbol, image.object_path);
}

}  // namespace

struct CudaDevice::Loaded final : Function {
  std::string symbol;
  cuda::Module module = nullptr;
  cuda::FunctionHandle handle = nullptr;
  std::uint32_t n_threads = 0;
  std::uint32_t shared_bytes = 0;
  std::size_t n_args = 0;
  // The launch's own pointers are copied here, before the two of the scratch.
  mutable std::vector<void*> params;
  std::uint64_t no_scratch = 0;
};

CudaDevice::CudaDevice(int ordinal, std::shared_ptr<const cuda::DriverApi> api)
    : api_(std::move(api)), ordinal_(ordinal) {
  info_.name = fmt::format("cuda:{}", ordinal);
  try {
    open();
  } catch (...) {
    close();
    throw;
  }
}

CudaDevice::~CudaDevice() { close(); }

bool CudaDevice::is_present() {
  try {
    const auto api = cuda::DriverApi::load();
    int n_devices = 0;
    return api->init(0) == 0 && api->device_count(&n_devices) == 0 && n_devices > 0;
  } catch (const Error&) {
    return false;
  }
}

void CudaDevice::open() {
  if (const auto result = api_->init(0); result != 0)
    throw Error("{}: {} failed: {}; check that nvidia-smi lists a GPU, or use --device cpu",
                info_.name, api_->init.symbol, api_->describe(result));
  int n_devices = 0;
  call(api_->device_count, &n_devices);
  if (n_devices == 0)
    throw Error("no device {}: the NVIDIA driver sees no GPU; use --device cpu", info_.name);
  if (ordinal_ < 0 || ordinal_ >= n_devices)
    throw Error("no device {}: expected cuda:0 to cuda:{}", info_.name, n_devices - 1);
  call(api_->device_get, &device_, ordinal_);
  describe_device();
  call(api_->context_retain, &context_, device_);
  make_current();
  call(api_->stream_create, &stream_, kNonBlockingStream);
  for (auto& staging : staging_) {
    void* memory = nullptr;
    call(api_->host_allocate, &memory, kStagingBytes, 0u);
    staging.memory = static_cast<std::byte*>(memory);
    call(api_->event_create, &staging.sent, kEventWithoutTiming);
  }
}

void CudaDevice::describe_device() {
  std::array<char, 256> name{};
  call(api_->device_name, name.data(), static_cast<int>(name.size()), device_);
  call(api_->driver_version, &driver_version_);
  info_.target =
      fmt::format("cuda:{}{}", attribute(cuda::kAttributeMajor), attribute(cuda::kAttributeMinor));
  info_.n_units = attribute(cuda::kAttributeMultiprocessors);
  info_.description = fmt::format("{}, {} multiprocessors, driver for CUDA {}", name.data(),
                                  info_.n_units, version_text(driver_version_));
  call(api_->device_total_memory, &info_.memory_bytes, device_);
  shared_limit_bytes_ = static_cast<std::size_t>(attribute(cuda::kAttributeSharedOptinBytes));
  max_threads_ = static_cast<std::uint32_t>(attribute(cuda::kAttributeMaxThreadsPerBlock));
}

// Answers are ignored: there is nobody to tell, and the driver repeats here what failed before.
void CudaDevice::close() noexcept {
  if (context_ == nullptr) return;
  api_->context_set_current(context_);
  if (stream_ != nullptr) api_->stream_synchronize(stream_);
  for (auto& function : functions_) api_->module_unload(function->module);
  functions_.clear();
  for (auto& staging : staging_) {
    if (staging.sent != nullptr) api_->event_destroy(staging.sent);
    if (staging.memory != nullptr) api_->host_free(staging.memory);
  }
  if (stream_ != nullptr) api_->stream_destroy(stream_);
  api_->context_set_current(nullptr);
  api_->context_release(device_);
  context_ = nullptr;
}

// The driver keeps a context a thread; a server's engine runs on another one than it was opened on.
void CudaDevice::make_current() const { call(api_->context_set_current, context_); }

// An error may belong to work queued earlier: the last launch is named too.
void CudaDevice::check(cuda::Result result, const char* symbol) const {
  if (result == 0) return;
  const auto message = fmt::format("{}: {} failed: {}", info_.name, symbol, api_->describe(result));
  if (last_launched_ == nullptr) throw Error("{}", message);
  throw Error("{}; the last kernel launched was {}", message, last_launched_->symbol);
}

int CudaDevice::attribute(int which) const {
  int value = 0;
  call(api_->device_attribute, &value, which, device_);
  return value;
}

Buffer CudaDevice::allocate(std::size_t size_bytes, const std::string& what) {
  make_current();
  Address address = 0;
  const auto result = api_->memory_allocate(&address, std::max<std::size_t>(size_bytes, 1));
  if (result == cuda::kOutOfMemory) {
    std::size_t free_now = 0;
    std::size_t total = 0;
    api_->memory_info(&free_now, &total);  // its failure must not hide this one
    throw Error("out of memory for {}: asked for {} bytes, free {} of {} bytes on {}", what,
                size_bytes, free_now, info_.memory_bytes, info_.name);
  }
  check(result, api_->memory_allocate.symbol);
  return Buffer(this, address, size_bytes);
}

void CudaDevice::release(Address address, std::size_t) noexcept {
  api_->context_set_current(context_);
  api_->memory_free(address);
}

std::size_t CudaDevice::free_bytes() const {
  make_current();
  std::size_t free = 0;
  std::size_t total = 0;
  call(api_->memory_info, &free, &total);
  return free;
}

void CudaDevice::upload(Address target, std::span<const std::byte> source) {
  make_current();
  while (!source.empty()) {
    auto& staging = staging_[next_staging_];
    next_staging_ = (next_staging_ + 1) % staging_.size();
    if (staging.is_busy) call(api_->event_synchronize, staging.sent);
    const auto n_bytes = std::min(source.size(), kStagingBytes);
    std::memcpy(staging.memory, source.data(), n_bytes);
    call(api_->copy_to_device, target, staging.memory, n_bytes, stream_);
    call(api_->event_record, staging.sent, stream_);
    staging.is_busy = true;
    target += n_bytes;
    source = source.subspan(n_bytes);
  }
}

void CudaDevice::download(std::span<std::byte> target, Address source) {
  if (target.empty()) return;
  make_current();
  call(api_->copy_to_host, target.data(), source, target.size(), stream_);
  call(api_->stream_synchronize, stream_);
}

void CudaDevice::fill_zero(Address target, std::size_t size_bytes) {
  if (size_bytes == 0) return;
  make_current();
  call(api_->memory_set, target, static_cast<unsigned char>(0), size_bytes, stream_);
}

void CudaDevice::launch(const Launch& launch) {
  const auto& [x, y, z] = launch.grid;
  if (x == 0 || y == 0 || z == 0) return;  // the driver refuses a grid without programs
  const auto& function = static_cast<const Loaded&>(*launch.function);
  std::copy_n(launch.params, function.n_args, function.params.begin());
  const cuda::LaunchConfig config{
      {x, y, z}, {function.n_threads, 1, 1}, function.shared_bytes, stream_, nullptr, 0};
  make_current();
  last_launched_ = &function;
  call(api_->launch_kernel, &config, function.handle, function.params.data(), nullptr);
}

void CudaDevice::synchronize() {
  make_current();
  call(api_->stream_synchronize, stream_);
}

void CudaDevice::check_fits(const KernelImage& image) const {
  const auto where = where_of(image);
  if (image.global_scratch_bytes != 0)
    throw Error("{}: needs {} bytes of global scratch; the cuda device has none", where,
                image.global_scratch_bytes);
  if (image.shared_bytes > shared_limit_bytes_)
    throw Error("{}: needs {} bytes of shared memory a program, {} has {}", where,
                image.shared_bytes, info_.name, shared_limit_bytes_);
  if (image.n_threads > max_threads_)
    throw Error("{}: needs {} threads a program, {} has {}", where, image.n_threads, info_.name,
                max_threads_);
  // The driver takes anything else for PTX text without an end.
  if (image.object.size() < kElfMagic.size() ||
      std::memcmp(image.object.data(), kElfMagic.data(), kElfMagic.size()) != 0)
    throw Error("{}: expected a cubin, got {} bytes of something else", where, image.object.size());
}

const Function* CudaDevice::load(const KernelImage& image) {
  check_fits(image);
  make_current();
  auto& kernel = *functions_.emplace_back(std::make_unique<Loaded>());
  try {
    load_into(kernel, image);
  } catch (...) {
    if (kernel.module != nullptr) api_->module_unload(kernel.module);
    functions_.pop_back();
    throw;
  }
  return &kernel;
}

void CudaDevice::load_into(Loaded& kernel, const KernelImage& image) {
  const auto loaded = api_->module_load(&kernel.module, image.object.data());
  if (loaded == cuda::kNoBinaryForDevice)
    throw Error("{}: compiled for another GPU; expected a bundle for {}", where_of(image),
                info_.target);
  if (loaded != 0)
    throw Error("{}: {}: {} failed: {}; the driver is for CUDA {}", info_.name, where_of(image),
                api_->module_load.symbol, api_->describe(loaded), version_text(driver_version_));
  kernel.symbol = image.symbol;
  kernel.n_threads = image.n_threads;
  kernel.shared_bytes = image.shared_bytes;
  kernel.n_args = image.args.size();
  kernel.params.assign(kernel.n_args + kNScratchParams, &kernel.no_scratch);
  if (const auto found = api_->module_function(&kernel.handle, kernel.module, image.symbol.c_str());
      found != 0)
    throw Error("{}: {}: {} failed: {}", info_.name, where_of(image), api_->module_function.symbol,
                api_->describe(found));
  if (kernel.shared_bytes > kDefaultSharedBytes)
    call(api_->function_set_attribute, kernel.handle, cuda::kFunctionMaxDynamicSharedBytes,
         static_cast<int>(kernel.shared_bytes));
}

}  // namespace nereid::device
