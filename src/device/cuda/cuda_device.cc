#include "device/cuda/cuda_device.h"

#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "device/cuda/tensor_map.h"

namespace nereid::device {

namespace {

struct CudaEvent final : Event {
  explicit CudaEvent(cuda::Session& owner) : session(owner) {
    session.make_current();
    session.call(session.api().event_create, &handle, 0u);
  }
  ~CudaEvent() override {
    session.make_current_to_close();
    session.api().event_destroy(handle);
  }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  cuda::Session& session;
  cuda::Event handle = nullptr;
  std::uint64_t n_launched = 0;  // before it
};

}  // namespace

CudaDevice::CudaDevice(int ordinal, std::shared_ptr<const cuda::DriverApi> api)
    : session_(ordinal, std::move(api)), memory_(session_), staging_(session_) {
  describe();
}

CudaDevice::~CudaDevice() {
  // Kernels are not unloaded from under their launches; there is nobody to tell of a failure.
  session_.make_current_to_close();
  session_.api().stream_synchronize(session_.stream());
}

bool CudaDevice::is_present() {
  try {
    const auto api = cuda::DriverApi::load();
    int n_devices = 0;
    return api->init(0) == 0 && api->device_count(&n_devices) == 0 && n_devices > 0;
  } catch (const Error&) {
    return false;
  }
}

void CudaDevice::describe() {
  std::array<char, 256> name{};
  session_.call(session_.api().device_name, name.data(), static_cast<int>(name.size()),
                session_.device());
  info_.name = session_.name();
  info_.target = fmt::format("cuda:{}{}", session_.attribute(cuda::kAttributeMajor),
                             session_.attribute(cuda::kAttributeMinor));
  info_.n_units = session_.attribute(cuda::kAttributeMultiprocessors);
  info_.description = fmt::format("{}, {} multiprocessors, driver for CUDA {}", name.data(),
                                  info_.n_units, cuda::version_text(session_.driver_version()));
  info_.memory_bytes = memory_.total_bytes();
  limits_.target = info_.target;
  limits_.shared_bytes =
      static_cast<std::size_t>(session_.attribute(cuda::kAttributeSharedOptinBytes));
  limits_.max_threads =
      static_cast<std::uint32_t>(session_.attribute(cuda::kAttributeMaxThreadsPerBlock));
}

void CudaDevice::check_not_capturing(const char* what) const {
  NEREID_CHECK(capturing_ == nullptr, "{} within a capture", what);
}

Buffer CudaDevice::allocate(std::size_t size_bytes, const std::string& what) {
  check_not_capturing("allocate");
  const auto address = memory_.allocate(size_bytes, what);
  count_.add(size_bytes);
  return {this, address, size_bytes};
}

void CudaDevice::release(Address address, std::size_t size_bytes) noexcept {
  memory_.release(address);
  count_.subtract(size_bytes);
}

std::size_t CudaDevice::free_bytes() const { return memory_.free_bytes(); }

void CudaDevice::upload(Address target, std::span<const std::byte> source) {
  check_not_capturing("upload");
  staging_.send(target, source);
}

void CudaDevice::download(std::span<std::byte> target, Address source) {
  check_not_capturing("download");
  if (target.empty()) return;
  queue_download(target, source);
  session_.synchronize();
}

void CudaDevice::fill_zero(Address target, std::size_t size_bytes) {
  if (size_bytes == 0) return;
  session_.make_current();
  session_.call(session_.api().memory_set, target, static_cast<unsigned char>(0), size_bytes,
                session_.stream());
}

void CudaDevice::launch(const Launch& launch) {
  const auto& [x, y, z] = launch.grid;
  if (x == 0 || y == 0 || z == 0) return;  // the driver refuses a grid without programs
  const auto& kernel = static_cast<const cuda::LoadedKernel&>(*launch.function);
  session_.make_current();
  if (capturing_ != nullptr) {
    kernel.launch(launch.grid, launch.params);
    capturing_->add_kernel(kernel.symbol());
    return;
  }
  kernel.launch(launch.grid, launch.params);
  session_.note_launch(kernel.symbol());
  if (session_.checks_launches()) session_.synchronize();
}

void CudaDevice::synchronize() {
  check_not_capturing("synchronize");
  session_.synchronize();
}

const Function* CudaDevice::load(const KernelImage& image) {
  check_not_capturing("load");
  auto& kernel =
      functions_.emplace_back(std::make_unique<cuda::LoadedKernel>(session_, limits_, image));
  kernel->device = this;
  return kernel.get();
}

TensorMap CudaDevice::tensor_map(const TiledMatrix& matrix) const {
  return cuda::encode_tensor_map(session_, matrix);
}

void CudaDevice::admit(const DeviceInfo& peer) {
  constexpr std::string_view kFamily = "cuda:";
  int ordinal = 0;
  const auto* end = peer.name.data() + peer.name.size();
  NEREID_CHECK(peer.name.starts_with(kFamily) &&
                   std::from_chars(peer.name.data() + kFamily.size(), end, ordinal).ptr == end,
               "{} is no peer of {}", peer.name, info_.name);
  memory_.admit(ordinal);
}

HostBuffer CudaDevice::allocate_host(std::size_t size_bytes, const std::string& what) {
  check_not_capturing("allocate_host");
  if (size_bytes == 0) return {};
  session_.make_current();
  void* memory = nullptr;
  const auto& api = session_.api();
  const auto result = api.host_allocate(&memory, size_bytes, 0u);
  if (result == cuda::kOutOfMemory)
    throw Error(ErrorCode::device, "out of pinned host memory for {}: asked for {} bytes", what,
                size_bytes);
  session_.check(result, api.host_allocate.symbol);
  return {this, {static_cast<std::byte*>(memory), size_bytes}};
}

void CudaDevice::release_host(std::span<std::byte> bytes) noexcept {
  session_.make_current_to_close();
  session_.api().host_free(bytes.data());
}

void CudaDevice::queue_upload(Address target, std::span<const std::byte> host) {
  if (host.empty()) return;
  session_.make_current();
  session_.call(session_.api().copy_to_device, target, host.data(), host.size(), session_.stream());
}

void CudaDevice::queue_download(std::span<std::byte> host, Address source) {
  if (host.empty()) return;
  session_.make_current();
  session_.call(session_.api().copy_to_host, host.data(), source, host.size(), session_.stream());
}

std::unique_ptr<Event> CudaDevice::make_event() { return std::make_unique<CudaEvent>(session_); }

void CudaDevice::record(Event& event) {
  check_not_capturing("record");
  auto& own = static_cast<CudaEvent&>(event);
  session_.make_current();
  session_.call(session_.api().event_record, own.handle, session_.stream());
  own.n_launched = session_.n_launched();
}

void CudaDevice::wait(const Event& event) {
  check_not_capturing("wait");
  const auto& own = static_cast<const CudaEvent&>(event);
  session_.make_current();
  session_.call(session_.api().event_synchronize, own.handle);
  session_.know_good(own.n_launched);
}

double CudaDevice::ms_between(const Event& begin, const Event& end) {
  float ms = 0;
  session_.make_current();
  session_.call(session_.api().event_elapsed, &ms, static_cast<const CudaEvent&>(begin).handle,
                static_cast<const CudaEvent&>(end).handle);
  return static_cast<double>(ms);
}

std::unique_ptr<CapturedWork> CudaDevice::capture(const std::function<void()>& work) {
  check_not_capturing("capture");
  return std::make_unique<cuda::CapturedGraph>(session_, [&](cuda::CapturedGraph& graph) {
    capturing_ = &graph;
    try {
      work();
    } catch (...) {
      capturing_ = nullptr;
      throw;
    }
    capturing_ = nullptr;
  });
}

void CudaDevice::replay(const CapturedWork& work) {
  check_not_capturing("replay");
  static_cast<const cuda::CapturedGraph&>(work).launch();
  if (session_.checks_launches()) session_.synchronize();
}

}  // namespace nereid::device
