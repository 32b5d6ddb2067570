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
using MemoryPool = struct MemoryPoolTag*;
using Graph = struct GraphTag*;
using GraphExec = struct GraphExecTag*;

// These three as the driver lays them out.
struct LaunchAttribute {
  std::uint32_t id;
  std::uint32_t padding;
  std::uint32_t value[16];
};
static_assert(sizeof(LaunchAttribute) == 72 && offsetof(LaunchAttribute, value) == 8);

struct LaunchConfig {
  std::uint32_t grid[3];
  std::uint32_t block[3];
  std::uint32_t shared_bytes;
  Stream stream;
  const LaunchAttribute* attributes;
  std::uint32_t n_attributes;
};
static_assert(sizeof(LaunchConfig) == 56 && offsetof(LaunchConfig, stream) == 32);

struct PoolProperties {
  int allocation_type;
  int handle_types;
  int location_type;
  int location_id;
  void* security_attributes;
  std::size_t max_bytes;  // 0: as many as there are
  unsigned char reserved[56];
};
static_assert(sizeof(PoolProperties) == 88 && offsetof(PoolProperties, max_bytes) == 24);

struct AccessDescription {
  int location_type;
  int location_id;
  int access;
};
static_assert(sizeof(AccessDescription) == 12);

inline constexpr int kAttributeMaxThreadsPerBlock = 1;
inline constexpr int kAttributeMultiprocessors = 16;
inline constexpr int kAttributeMajor = 75;
inline constexpr int kAttributeMinor = 76;
inline constexpr int kAttributeSharedOptinBytes = 97;
inline constexpr int kAttributeMemoryPools = 115;
inline constexpr int kFunctionMaxDynamicSharedBytes = 8;
inline constexpr int kFunctionNonPortableCluster = 14;
inline constexpr std::uint32_t kLaunchCooperative = 2;
inline constexpr std::uint32_t kLaunchCluster = 4;
inline constexpr std::uint32_t kLaunchClusterPolicy = 5;
inline constexpr std::uint32_t kLaunchProgrammatic = 6;
inline constexpr std::uint32_t kClusterPolicySpread = 1;
inline constexpr int kPoolReleaseThreshold = 4;
inline constexpr int kPoolReservedBytes = 5;
inline constexpr int kPoolUsedBytes = 7;
inline constexpr int kAllocationPinned = 1;
inline constexpr int kLocationDevice = 1;
inline constexpr int kAccessReadWrite = 3;
inline constexpr int kCaptureThreadLocal = 1;
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
