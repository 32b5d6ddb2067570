#include "device/cuda/session.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace nereid::device::cuda {

namespace {

constexpr unsigned kNonBlockingStream = 1;
// Drivers for CUDA 12 load what any assembler of CUDA 12 makes; Triton's is one.
constexpr int kOldestDriver = 12000;
// Names in a message about a kernel that failed some time ago.
constexpr std::size_t kMaxSuspects = 8;

// Errors that a running kernel causes, to be met by whatever call comes next.
bool is_kernel_fault(Result result) {
  return result == 700 || result == 702 || result == 710 || (result >= 714 && result <= 719);
}

bool wants_checked_launches() {
  const char* value = std::getenv("NEREID_CHECK_LAUNCHES");
  return value != nullptr && std::string_view(value) == "1";
}

}  // namespace

std::string version_text(int driver_version) {
  return fmt::format("{}.{}", driver_version / 1000, driver_version % 1000 / 10);
}

Session::Session(int ordinal, std::shared_ptr<const DriverApi> api)
    : api_(std::move(api)),
      ordinal_(ordinal),
      name_(fmt::format("cuda:{}", ordinal)),
      checks_launches_(wants_checked_launches()) {
  try {
    open();
  } catch (...) {
    close();
    throw;
  }
}

Session::~Session() { close(); }

void Session::open() {
  if (const auto result = api_->init(0); result != 0)
    throw Error(ErrorCode::device,
                "{}: {} failed: {}; check that nvidia-smi lists a GPU, or use --device cpu", name_,
                api_->init.symbol, api_->describe(result));
  call(api_->driver_version, &driver_version_);
  if (driver_version_ < kOldestDriver)
    throw Error(ErrorCode::device,
                "{}: the NVIDIA driver is for CUDA {}; expected one for CUDA {} or later", name_,
                version_text(driver_version_), version_text(kOldestDriver));
  int n_devices = 0;
  call(api_->device_count, &n_devices);
  if (n_devices == 0)
    throw Error(ErrorCode::device, "no device {}: the NVIDIA driver sees no GPU; use --device cpu",
                name_);
  if (ordinal_ < 0 || ordinal_ >= n_devices)
    throw Error(ErrorCode::device, "no device {}: expected cuda:0 to cuda:{}", name_,
                n_devices - 1);
  call(api_->device_get, &device_, ordinal_);
  if (attribute(kAttributeMemoryPools) == 0)
    throw Error(ErrorCode::device,
                "{}: the NVIDIA driver gives this GPU no memory pools; use --device cpu", name_);
  call(api_->context_retain, &context_, device_);
  make_current();
  call(api_->stream_create, &stream_, kNonBlockingStream);
}

// Answers are ignored: there is nobody to tell, and the driver repeats here what failed before.
void Session::close() noexcept {
  if (context_ == nullptr) return;
  api_->context_set_current(context_);
  if (stream_ != nullptr) {
    api_->stream_synchronize(stream_);
    api_->stream_destroy(stream_);
  }
  api_->context_set_current(nullptr);
  api_->context_release(device_);
  context_ = nullptr;
}

int Session::attribute(int which) const {
  int value = 0;
  call(api_->device_attribute, &value, which, device_);
  return value;
}

void Session::check(Result result, const char* symbol) const {
  if (result == 0) return;
  const auto message = fmt::format("{}: {} failed: {}", name_, symbol, api_->describe(result));
  if (!is_kernel_fault(result) || n_launched_ == n_known_good_)
    throw Error(ErrorCode::device, "{}", message);
  throw Error(ErrorCode::device, "{}; {}", message, suspects());
}

void Session::synchronize() {
  make_current();
  call(api_->stream_synchronize, stream_);
  know_good(n_launched_);
}

void Session::note_launch(const std::string& symbol) {
  launched_[n_launched_ % kNRemembered] = &symbol;
  ++n_launched_;
}

void Session::know_good(std::uint64_t n_launched) {
  n_known_good_ = std::max(n_known_good_, n_launched);
}

// The kernels that may have failed, each once, the oldest first.
std::string Session::suspects() const {
  const auto n_remembered = std::min<std::uint64_t>(n_launched_ - n_known_good_, kNRemembered);
  std::vector<std::string_view> names;
  for (auto i = n_launched_ - n_remembered; i < n_launched_; ++i) {
    const std::string_view symbol = *launched_[i % kNRemembered];
    if (std::ranges::find(names, symbol) == names.end()) names.push_back(symbol);
  }
  if (names.size() == 1) return fmt::format("in kernel {}", names[0]);
  std::string text = "in one of the kernels ";
  for (std::size_t i = 0; i < std::min(names.size(), kMaxSuspects); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", names[i]);
  if (names.size() > kMaxSuspects) text += ", ...";
  return text + "; run again with NEREID_CHECK_LAUNCHES=1 to learn which";
}

}  // namespace nereid::device::cuda
