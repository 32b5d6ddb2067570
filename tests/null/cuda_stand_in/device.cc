// The driver itself, its errors, devices and contexts.
#include <algorithm>
#include <cstring>

#include "null/cuda_stand_in/state.h"

namespace nereid::device::cuda {

namespace {

const char* name_of(Result error) {
  switch (error) {
    case 0:
      return "CUDA_SUCCESS";
    case kInvalidValue:
      return "CUDA_ERROR_INVALID_VALUE";
    case kOutOfMemory:
      return "CUDA_ERROR_OUT_OF_MEMORY";
    case kNoDevice:
      return "CUDA_ERROR_NO_DEVICE";
    case kInvalidImage:
      return "CUDA_ERROR_INVALID_IMAGE";
    case kNoBinaryForDevice:
      return "CUDA_ERROR_NO_BINARY_FOR_GPU";
    case kNotFound:
      return "CUDA_ERROR_NOT_FOUND";
    case kLaunchFailed:
      return "CUDA_ERROR_LAUNCH_FAILED";
    default:
      return nullptr;
  }
}

}  // namespace

Result cuInit(unsigned flags) {
  ENTER(nothing);
  if (flags != 0) return violation(__func__, "flags", kInvalidValue);
  state().is_initialized = true;
  return control().n_devices == 0 ? kNoDevice : 0;
}

Result cuDriverGetVersion(int* version) {
  ENTER(nothing);
  *version = control().driver_version;
  return 0;
}

Result cuGetErrorName(Result error, const char** name) {
  *name = name_of(error);
  return *name == nullptr ? kInvalidValue : 0;
}

Result cuGetErrorString(Result error, const char** text) {
  *text = error == kLaunchFailed ? "unspecified launch failure" : "text of the stand-in";
  return 0;
}

Result cuDeviceGetCount(int* count) {
  ENTER(driver);
  *count = std::max(control().n_devices, 0);
  return 0;
}

Result cuDeviceGet(DeviceHandle* device, int ordinal) {
  ENTER(driver);
  if (!is_device(ordinal)) return violation(__func__, "ordinal", kInvalidDevice);
  *device = ordinal;
  return 0;
}

Result cuDeviceGetName(char* name, int length, DeviceHandle device) {
  ENTER(driver);
  if (!is_device(device) || length < 16) return violation(__func__, "arguments", kInvalidValue);
  std::strncpy(name, "Stand-in", static_cast<std::size_t>(length));
  return 0;
}

Result cuDeviceGetAttribute(int* value, int attribute, DeviceHandle device) {
  ENTER(driver);
  if (!is_device(device)) return violation(__func__, "device", kInvalidDevice);
  switch (attribute) {
    case kAttributeMaxThreadsPerBlock:
      *value = 1024;
      return 0;
    case kAttributeMultiprocessors:
      *value = 132;
      return 0;
    case kAttributeMajor:
      *value = control().arch / 10;
      return 0;
    case kAttributeMinor:
      *value = control().arch % 10;
      return 0;
    case kAttributeSharedOptinBytes:
      *value = kMaxSharedBytes;
      return 0;
    case kAttributeMemoryPools:
      *value = control().has_memory_pools ? 1 : 0;
      return 0;
    default:
      return violation(__func__, "attribute", kInvalidValue);
  }
}

Result cuDeviceCanAccessPeer(int* can_access, DeviceHandle device, DeviceHandle peer) {
  ENTER(driver);
  if (!is_device(device) || !is_device(peer) || device == peer)
    return violation(__func__, "device", kInvalidDevice);
  *can_access = control().has_peer_access ? 1 : 0;
  return 0;
}

Result cuDeviceTotalMem_v2(std::size_t* bytes, DeviceHandle device) {
  ENTER(driver);
  if (!is_device(device)) return violation(__func__, "device", kInvalidDevice);
  *bytes = control().memory_bytes;
  return 0;
}

Result cuDevicePrimaryCtxRetain(Context* context, DeviceHandle device) {
  ENTER(driver);
  if (!is_device(device)) return violation(__func__, "device", kInvalidDevice);
  ++state().n_retained[device];
  *context = primary_context(device);
  return 0;
}

// What releases does so even where it fails: the driver then reports an earlier fault.
Result cuDevicePrimaryCtxRelease_v2(DeviceHandle device) {
  ONE_AT_A_TIME();
  const Result result = enter(__func__, Needs::driver);
  if (state().n_retained[device] == 0) return violation(__func__, "not retained", kInvalidContext);
  --state().n_retained[device];
  return result;
}

Result cuCtxSetCurrent(Context context) {
  ENTER(driver);
  if (context != nullptr && !is_primary_context(context))
    return violation(__func__, "context", kInvalidContext);
  current_context() = context;
  return 0;
}

}  // namespace nereid::device::cuda
