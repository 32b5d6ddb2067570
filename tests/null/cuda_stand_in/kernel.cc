// Modules, functions, tensor maps and launches.
#include <algorithm>
#include <array>
#include <cstring>
#include <sstream>
#include <string>
#include <utility>

#include "null/cuda_stand_in/state.h"

namespace nereid::device::cuda {

namespace {

constexpr char kMapMark[] = "tensorm";  // 8 bytes with its end
constexpr std::string_view kMagic =
    "\x7f"
    "ELF";

bool is_pointer(char kind, std::uint64_t value) {
  return kind == 'p' || (kind == 'o' && value != 0);
}

// Kernels reach the host's pinned memory, too.
bool is_pinned(std::uint64_t address) {
  return covers(state().pinned, reinterpret_cast<void*>(address), 1);
}

bool is_right_attribute(const LaunchAttribute& attribute, const LaunchConfig& config) {
  const auto& value = attribute.value;
  switch (attribute.id) {
    case kLaunchProgrammatic:
      return value[0] == 1 && control().driver_version >= 12030;
    case kLaunchCooperative:
      return value[0] == 1;
    case kLaunchCluster:
      return value[0] > 1 && value[0] <= 16 && config.grid[0] % value[0] == 0 && value[1] == 1 &&
             value[2] == 1;
    case kLaunchClusterPolicy:
      return value[0] == kClusterPolicySpread;
    default:
      return false;
  }
}

void run_kernel(StandInLaunch launch, const std::string& kinds, bool is_replayed) {
  launch.is_replayed = is_replayed;
  control().launches.push_back(launch);
  if (control().fail_kernel == launch.symbol) {
    state().sticky = kLaunchFailed;
    return;
  }
  for (std::size_t i = 0; i < kinds.size(); ++i)
    if (is_pointer(kinds[i], launch.args[i]) && !is_pinned(launch.args[i]) &&
        !is_alive("kernel", launch.args[i], 1))
      return;
  if (control().on_launch) control().on_launch(launch);
  if (!kinds.starts_with("ppi")) return;
  const auto n = launch.args[2];
  if (!covers(state().memory_of_work, launch.args[0], n) ||
      !covers(state().memory_of_work, launch.args[1], n)) {
    violation("kernel", "out of bounds", 0);
    return;
  }
  for (std::uint64_t i = 0; i < n; ++i)
    bytes_at(launch.args[0])[i] =
        static_cast<std::byte>(static_cast<int>(bytes_at(launch.args[1])[i]) + 1);
}

}  // namespace

Result cuModuleLoadData(Module* module, const void* image) {
  ENTER_OUTSIDE_CAPTURE();
  if (image == nullptr || std::memcmp(image, kMagic.data(), kMagic.size()) != 0)
    return violation(__func__, "not an ELF image", kInvalidImage);
  std::istringstream text(static_cast<const char*>(image) + kMagic.size());
  int arch = 0;
  auto made = std::make_unique<ModuleTag>();
  if (!(text >> arch >> made->function.symbol >> made->function.params)) return kInvalidImage;
  if (arch != control().arch) return kNoBinaryForDevice;
  *module = made.get();
  state().modules[*module] = std::move(made);
  return 0;
}

Result cuModuleUnload(Module module) {
  ONE_AT_A_TIME();
  const Result result = enter(__func__, Needs::context);
  run_all();
  if (state().modules.erase(module) == 0) return violation(__func__, "module", kInvalidHandle);
  return result;
}

Result cuModuleGetFunction(FunctionHandle* function, Module module, const char* name) {
  ENTER(context);
  if (!state().modules.contains(module)) return violation(__func__, "module", kInvalidHandle);
  if (module->function.symbol != name) return kNotFound;
  *function = &module->function;
  return 0;
}

Result cuFuncSetAttribute(FunctionHandle function, int attribute, int value) {
  ENTER(context);
  if (attribute == kFunctionNonPortableCluster && value == 1) return 0;
  if (attribute != kFunctionMaxDynamicSharedBytes || value < 0 || value > kMaxSharedBytes)
    return violation(__func__, "attribute", kInvalidValue);
  function->shared_limit_bytes = value;
  return 0;
}

// The map that it makes: the address, then a mark.
Result cuTensorMapEncodeTiled(void* map, int element, unsigned rank, void* address,
                              const std::uint64_t* sizes, const std::uint64_t* strides_bytes,
                              const std::uint32_t* box, const std::uint32_t* element_strides,
                              int interleave, int swizzle, int l2_promotion, int fill) {
  ENTER(context);
  constexpr std::array<std::uint64_t, 14> kElementBytes{1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4, 1};
  constexpr std::array<std::uint64_t, 4> kSpanBytes{0, 32, 64, 128};
  if (control().arch < 90) return violation(__func__, "the GPU has none", kInvalidValue);
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0 || rank < 1 || rank > 5 || element < 0 ||
      element > 13 || interleave != 0 || swizzle < 0 || swizzle > 3 || l2_promotion < 0 ||
      l2_promotion > 3 || fill != 0)
    return violation(__func__, "arguments", kInvalidValue);
  const auto element_bytes = kElementBytes[static_cast<std::size_t>(element)];
  const auto span_bytes = kSpanBytes[static_cast<std::size_t>(swizzle)];
  const auto at = reinterpret_cast<std::uint64_t>(address);
  if (at % 16 != 0 || !covers(state().memory, at, 1))
    return violation(__func__, "address", kInvalidValue);
  for (unsigned i = 0; i < rank; ++i) {
    if (sizes[i] == 0 || sizes[i] > std::uint64_t{1} << 32 || box[i] == 0 || box[i] > 256 ||
        element_strides[i] != 1)
      return violation(__func__, "dimension " + std::to_string(i), kInvalidValue);
    if (i + 1 < rank && (strides_bytes[i] % 16 != 0 || strides_bytes[i] >= std::uint64_t{1} << 40))
      return violation(__func__, "stride " + std::to_string(i), kInvalidValue);
  }
  const auto box_bytes = box[0] * element_bytes;
  if (box_bytes % 16 != 0 || (span_bytes != 0 && box_bytes > span_bytes))
    return violation(__func__, "box", kInvalidValue);
  std::memset(map, 0, 128);
  std::memcpy(map, &at, sizeof(at));
  std::memcpy(static_cast<char*>(map) + 8, kMapMark, 8);
  return 0;
}

Result cuLaunchKernelEx(const LaunchConfig* config, FunctionHandle function, void** params,
                        void** extra) {
  ENTER(context);
  const auto& modules = state().modules;
  if (std::none_of(modules.begin(), modules.end(),
                   [&](const auto& each) { return &each.first->function == function; }))
    return violation(__func__, "function", kInvalidHandle);
  if (!state().streams.contains(config->stream))
    return violation(__func__, "stream", kInvalidHandle);
  const auto [grid_x, grid_y, grid_z] = config->grid;
  const auto n_threads = std::uint64_t{config->block[0]} * config->block[1] * config->block[2];
  if (grid_x == 0 || grid_y == 0 || grid_z == 0 || grid_x > 0x7fffffff || grid_y > 65535 ||
      grid_z > 65535)
    return violation(__func__, "grid", kInvalidValue);
  if (n_threads == 0 || n_threads > 1024 || n_threads % 32 != 0)
    return violation(__func__, "threads", kInvalidValue);
  if (config->shared_bytes > static_cast<std::uint32_t>(function->shared_limit_bytes))
    return violation(__func__, "shared memory", kInvalidValue);
  if (extra != nullptr) return violation(__func__, "extra", kInvalidValue);

  StandInLaunch launch{function->symbol,
                       {grid_x, grid_y, grid_z},
                       {config->block[0], config->block[1], config->block[2]},
                       config->shared_bytes,
                       {},
                       {}};
  launch.device = current_device();
  for (std::uint32_t i = 0; i < config->n_attributes; ++i) {
    const auto& [id, padding, value] = config->attributes[i];
    if (!is_right_attribute(config->attributes[i], *config))
      return violation(__func__, "attribute " + std::to_string(id), kInvalidValue);
    launch.attributes.emplace_back(id, value[0]);
  }
  for (std::size_t i = 0; i < function->params.size(); ++i) {
    const char kind = function->params[i];
    auto& value = launch.args.emplace_back(0);
    if (kind == 't') {
      const auto map = reinterpret_cast<std::uintptr_t>(params[i]);
      std::memcpy(&value, params[i], 8);
      if (map % 64 != 0 || std::memcmp(static_cast<char*>(params[i]) + 8, kMapMark, 8) != 0)
        return violation(__func__, "argument " + std::to_string(i) + " is no tensor map",
                         kInvalidValue);
      if (!covers(state().memory, value, 1))
        return violation(__func__, "tensor map " + std::to_string(i) + " points nowhere",
                         kInvalidValue);
      continue;
    }
    std::memcpy(&value, params[i], kind == 'i' ? 4 : kind == 'h' ? 2 : 8);
    if (is_pointer(kind, value) && !covers(state().memory, value, 1) && !is_pinned(value))
      return violation(__func__, "argument " + std::to_string(i) + " points nowhere",
                       kInvalidValue);
    if (kind == 's' && value != 0) return violation(__func__, "scratch is not null", kInvalidValue);
  }
  queue(config->stream, [launch = std::move(launch), kinds = function->params](bool is_replayed) {
    run_kernel(launch, kinds, is_replayed);
  });
  return 0;
}

}  // namespace nereid::device::cuda
