#include "device/cuda/driver_api.h"

#include <dlfcn.h>

#include "base/error.h"

namespace nereid::device::cuda {

std::shared_ptr<const DriverApi> DriverApi::load(const std::string& library) {
  // Not make_shared: the constructor is private.
  std::shared_ptr<DriverApi> api(new DriverApi);
  api->library_ = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (api->library_ == nullptr) {
    const char* reason = ::dlerror();
    throw Error(ErrorCode::device, "no NVIDIA driver: {}; install the driver, or use --device cpu",
                reason != nullptr ? reason : library.c_str());
  }
  const auto find = [&](const char* symbol) {
    void* function = ::dlsym(api->library_, symbol);
    if (function == nullptr)
      throw Error(ErrorCode::device,
                  "the NVIDIA driver ({}) has no {}; expected a driver for CUDA 11.8 or later",
                  library, symbol);
    return function;
  };
#define CUDA_DRIVER_FUNCTION(member, symbol, parameters) \
  api->member.function = reinterpret_cast<Result(*) parameters>(find(#symbol));
#include "device/cuda/driver_api.def"
#undef CUDA_DRIVER_FUNCTION
  return api;
}

DriverApi::~DriverApi() {
  if (library_ != nullptr) ::dlclose(library_);
}

std::string DriverApi::describe(Result error) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (error_name(error, &name) != 0 || name == nullptr) return fmt::format("CUDA error {}", error);
  if (error_string(error, &text) != 0 || text == nullptr) return name;
  return fmt::format("{} ({})", name, text);
}

}  // namespace nereid::device::cuda
