#include "device/registry.h"

#include <array>
#include <string_view>

#include "base/error.h"
#include "device/cpu/cpu_device.h"
#include "device/null/null_device.h"

namespace nereid::device {

namespace {

struct Backend {
  std::string_view name;
  bool is_auto;  // may be chosen by "auto"
  std::unique_ptr<Device> (*open)(const DeviceOptions& options);
};

// Best first: "auto" takes the first that may be chosen.
constexpr std::array<Backend, 2> kBackends{{
    {"cpu", true,
     [](const DeviceOptions& options) -> std::unique_ptr<Device> {
       return std::make_unique<CpuDevice>(options.n_threads);
     }},
    {"null", false,
     [](const DeviceOptions&) -> std::unique_ptr<Device> {
       return std::make_unique<NullDevice>();
     }},
}};

std::string available() {
  std::string names;
  for (const auto& backend : kBackends) {
    if (!names.empty()) names += ", ";
    names += backend.name;
  }
  return names;
}

}  // namespace

std::unique_ptr<Device> open_device(const DeviceOptions& options) {
  if (options.n_threads < 0)
    throw Error("number of threads: expected 0 (every cpu) or more, got {}", options.n_threads);
  for (const auto& backend : kBackends)
    if (options.name == backend.name || (options.name == "auto" && backend.is_auto))
      return backend.open(options);
  const std::string_view family = std::string_view(options.name).substr(0, options.name.find(':'));
  if (family == "cuda" || family == "hip")
    throw Error("device \"{}\" is not part of this build; available: {}", options.name,
                available());
  throw Error("unknown device \"{}\"; available: auto, {}", options.name, available());
}

}  // namespace nereid::device
