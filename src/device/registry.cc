#include "device/registry.h"

#include <array>
#include <charconv>
#include <string_view>

#include "base/error.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"
#include "device/null/null_device.h"

namespace nereid::device {

namespace {

struct Backend {
  std::string_view name;
  bool has_ordinal;      // "cuda:1" is the second
  bool (*is_present)();  // may be chosen by "auto" on this machine
  std::unique_ptr<Device> (*open)(const DeviceOptions& options, int ordinal);
};

// Best first: "auto" takes the first that is present.
constexpr std::array<Backend, 3> kBackends{{
    {"cuda", true, [] { return CudaDevice::is_present(); },
     [](const DeviceOptions&, int ordinal) -> std::unique_ptr<Device> {
       return std::make_unique<CudaDevice>(ordinal);
     }},
    {"cpu", false, [] { return true; },
     [](const DeviceOptions& options, int) -> std::unique_ptr<Device> {
       return std::make_unique<CpuDevice>(options.n_threads);
     }},
    {"null", false, [] { return false; },
     [](const DeviceOptions&, int) -> std::unique_ptr<Device> {
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

constexpr std::string_view kCpuRanks = "cpu:";
constexpr int kMaxCpuRanks = 64;

bool is_several(std::string_view name) {
  return name.find(',') != std::string_view::npos || name.starts_with(kCpuRanks);
}

// Each has as many threads, on processors of its own where there are so many.
std::vector<std::unique_ptr<Device>> open_cpu_ranks(const DeviceOptions& options) {
  const auto digits = std::string_view(options.name).substr(kCpuRanks.size());
  int n_ranks = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n_ranks);
  if (error != std::errc{} || end != digits.data() + digits.size() || n_ranks < 1 ||
      n_ranks > kMaxCpuRanks)
    throw Error("device \"{}\": expected a number of ranks, 1 to {}, after \"{}\"", options.name,
                kMaxCpuRanks, kCpuRanks);
  std::vector<std::unique_ptr<Device>> devices;
  for (int rank = 0; rank < n_ranks; ++rank)
    devices.push_back(std::make_unique<CpuDevice>(options.n_threads, CpuShare{rank, n_ranks}));
  return devices;
}

}  // namespace

std::unique_ptr<Device> open_device(const DeviceOptions& options) {
  if (is_several(options.name))
    throw Error("device \"{}\" is several devices; expected one here", options.name);
  if (options.n_threads < 0)
    throw Error("number of threads: expected 0 (every cpu) or more, got {}", options.n_threads);
  const std::string_view name = options.name;
  const std::string_view family = name.substr(0, name.find(':'));
  for (const auto& backend : kBackends) {
    if (name == backend.name || (name == "auto" && backend.is_present()))
      return backend.open(options, 0);
    if (family != backend.name || !backend.has_ordinal) continue;
    const auto digits = name.substr(family.size() + 1);
    int ordinal = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
    if (error != std::errc{} || end != digits.data() + digits.size() || ordinal < 0)
      throw Error("device \"{}\": expected a number after \"{}:\"", name, family);
    return backend.open(options, ordinal);
  }
  if (family == "hip")
    throw Error("device \"{}\" is not part of this build; available: {}", options.name,
                available());
  throw Error("unknown device \"{}\"; available: auto, {}", options.name, available());
}

std::vector<std::unique_ptr<Device>> open_devices(const DeviceOptions& options) {
  if (options.name.starts_with(kCpuRanks)) return open_cpu_ranks(options);
  std::vector<std::unique_ptr<Device>> devices;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = options.name.find(',', begin);
    auto one = options;
    one.name = options.name.substr(begin, end - begin);
    if (one.name.empty())
      throw Error("device \"{}\": expected names between the commas", options.name);
    devices.push_back(open_device(one));
  }
  return devices;
}

}  // namespace nereid::device
