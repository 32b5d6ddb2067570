// Goal: one GPU's context and queue, opened and closed, and the one way to call its driver: every
// failure is an Error that names the call and, where a kernel caused it earlier, the kernel.
// Non-goal: what is queued (cuda_device.h).
// Rejected: a wait after each launch to find the kernel at fault: it costs more than the kernels.
// What was launched since the last known-good point is remembered instead, and
// NEREID_CHECK_LAUNCHES=1 makes the waits for the one run that needs them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "device/cuda/driver_api.h"

namespace nereid::device::cuda {

class Session {
 public:
  Session(int ordinal, std::shared_ptr<const DriverApi> api);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const DriverApi& api() const { return *api_; }
  const std::string& name() const { return name_; }  // "cuda:0"
  DeviceHandle device() const { return device_; }
  Stream stream() const { return stream_; }
  int driver_version() const { return driver_version_; }  // CUDA 12.4 is 12040
  int attribute(int which) const;
  bool checks_launches() const { return checks_launches_; }

  // Calls the driver; its failure is an Error.
  template <typename... Params, typename... Args>
  void call(const DriverFunction<Result(Params...)>& function, Args... args) const {
    check(function(args...), function.symbol);
  }
  void check(Result result, const char* symbol) const;

  // The driver keeps a context a thread; a server's engine runs on another than it was opened on.
  void make_current() const { call(api_->context_set_current, context_); }
  void make_current_to_close() const noexcept { api_->context_set_current(context_); }
  void synchronize();

  // Launches are counted; one up to which all went well is remembered. `symbol` outlives the
  // session's use.
  void note_launch(const std::string& symbol);
  std::uint64_t n_launched() const { return n_launched_; }
  void know_good(std::uint64_t n_launched);

 private:
  void open();
  void close() noexcept;
  std::string suspects() const;

  static constexpr std::size_t kNRemembered = 1024;

  std::shared_ptr<const DriverApi> api_;
  int ordinal_;
  std::string name_;
  bool checks_launches_;
  int driver_version_ = 0;
  DeviceHandle device_ = 0;
  Context context_ = nullptr;
  Stream stream_ = nullptr;
  std::array<const std::string*, kNRemembered> launched_{};  // launch i at i % kNRemembered
  std::uint64_t n_launched_ = 0;
  std::uint64_t n_known_good_ = 0;
};

std::string version_text(int driver_version);  // "12.4"

}  // namespace nereid::device::cuda
