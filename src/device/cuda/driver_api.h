// Goal: the NVIDIA driver's functions, found in libcuda.so.1 when a cuda device is opened. Building
// needs no header and no library of NVIDIA's; a machine without the driver runs everything else.
// Non-goal: wrapping what the driver does (cuda_device.h does).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace nereid::device::cuda {

using Result = int;  // 0: success
using DeviceHandle = int;
using Context = struct ContextTag*;
using Stream = struct StreamTag*;
using Event = struct EventTag*;
using Module = struct ModuleTag*;
using FunctionHandle = struct FunctionTag*;

// As the driver lays it out.
struct LaunchConfig {
  std::uint32_t grid[3];
  std::uint32_t block[3];
  std::uint32_t shared_bytes;
  Stream stream;
  const void* attributes;
  std::uint32_t n_attributes;
};
static_assert(sizeof(LaunchConfig) == 56 && offsetof(LaunchConfig, stream) == 32);

inline constexpr int kAttributeMaxThreadsPerBlock = 1;
inline constexpr int kAttributeMultiprocessors = 16;
inline constexpr int kAttributeMajor = 75;
inline constexpr int kAttributeMinor = 76;
inline constexpr int kAttributeSharedOptinBytes = 97;
inline constexpr int kFunctionMaxDynamicSharedBytes = 8;
inline constexpr Result kOutOfMemory = 2;
inline constexpr Result kNoBinaryForDevice = 209;

inline constexpr const char* kDriverLibrary = "libcuda.so.1";

// Called like the function itself; `symbol` is for messages.
template <typename Signature>
struct DriverFunction;
template <typename... Params>
struct DriverFunction<Result(Params...)> {
  const char* symbol;
  Result (*function)(Params...) = nullptr;
  Result operator()(Params... params) const { return function(params...); }
};

class DriverApi {
 public:
  // An Error says that the driver is missing, or too old to have a function we call.
  static std::shared_ptr<const DriverApi> load(const std::string& library = kDriverLibrary);
  ~DriverApi();
  DriverApi(const DriverApi&) = delete;
  DriverApi& operator=(const DriverApi&) = delete;

#define CUDA_DRIVER_FUNCTION(member, symbol, parameters) \
  DriverFunction<Result parameters> member{#symbol};
#include "device/cuda/driver_api.def"
#undef CUDA_DRIVER_FUNCTION

  std::string describe(Result error) const;  // "CUDA_ERROR_INVALID_VALUE (invalid argument)"

 private:
  DriverApi() = default;
  void* library_ = nullptr;
};

}  // namespace nereid::device::cuda
