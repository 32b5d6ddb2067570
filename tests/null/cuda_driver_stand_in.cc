#include "null/cuda_driver_stand_in.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string_view>

#include "device/cuda/driver_api.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace nereid::device::cuda {

// The table's own signatures: a definition below that differs does not compile.
#define CUDA_DRIVER_FUNCTION(member, symbol, parameters) EXPORTED Result symbol parameters;
#include "device/cuda/driver_api.def"
#undef CUDA_DRIVER_FUNCTION

struct ContextTag {};
struct StreamTag {
  std::deque<std::function<void()>> work;  // done when somebody waits, never before
  std::uint64_t n_queued = 0, n_done = 0;
};
struct EventTag {
  Stream stream = nullptr;
  std::uint64_t position = 0;
};
struct FunctionTag {
  std::string symbol, params;
  int shared_limit_bytes = 48 * 1024;
};
struct ModuleTag {
  FunctionTag function;
};

namespace {

constexpr Result kInvalidValue = 1;
constexpr Result kNotInitialized = 3;
constexpr Result kNoDevice = 100;
constexpr Result kInvalidDevice = 101;
constexpr Result kInvalidImage = 200;
constexpr Result kInvalidContext = 201;
constexpr Result kInvalidHandle = 400;
constexpr Result kNotFound = 500;
constexpr Result kLaunchFailed = 719;
constexpr int kMaxSharedBytes = 227 * 1024;
constexpr std::string_view kMagic =
    "\x7f"
    "ELF";

template <typename T>
using Handles = std::map<T*, std::unique_ptr<T>>;

struct State {
  bool is_initialized = false;
  int sticky = 0;  // of a kernel that failed: the context is lost
  std::map<DeviceHandle, int> n_retained;
  std::map<std::uint64_t, std::size_t> memory;
  std::map<void*, std::size_t> pinned;
  std::size_t used_bytes = 0;
  Handles<StreamTag> streams;
  Handles<EventTag> events;
  Handles<ModuleTag> modules;
};

struct Library {
  DriverStandIn control;
  State state;
  std::array<ContextTag, 8> contexts;  // primary, one a device
};

Library& library() {
  static Library instance;
  return instance;
}
DriverStandIn& control() { return library().control; }
State& state() { return library().state; }

thread_local Context current_context = nullptr;

Result violation(const char* call, std::string_view what, Result result) {
  control().violations.push_back(std::string(call) + ": " + std::string(what));
  return result;
}

enum class Needs { nothing, driver, context };

// Counts the call; its result where it must fail before it does anything.
Result enter(const char* call, Needs needs) {
  auto& c = control();
  ++c.n_calls;
  c.calls.emplace_back(call);
  if (c.n_calls == c.fail_at) {
    c.failed_call = call;
    return c.fail_result;
  }
  if (needs == Needs::nothing) return 0;
  if (!state().is_initialized) return violation(call, "before cuInit", kNotInitialized);
  if (needs == Needs::driver) return 0;
  if (current_context == nullptr) return violation(call, "no current context", kInvalidContext);
  const auto device = static_cast<DeviceHandle>(current_context - library().contexts.data());
  if (state().n_retained[device] == 0)
    return violation(call, "the current context was released", kInvalidContext);
  return state().sticky;
}

#define ENTER(needs) \
  if (const Result entered = enter(__func__, Needs::needs); entered != 0) return entered

bool is_device(DeviceHandle device) { return device >= 0 && device < control().n_devices; }

// Whether [address, address + bytes) lies in one live allocation.
template <typename Key>
bool covers(const std::map<Key, std::size_t>& blocks, Key address, std::size_t bytes) {
  auto after = blocks.upper_bound(address);
  if (after == blocks.begin()) return false;
  const auto& [start, size] = *std::prev(after);
  const auto offset = reinterpret_cast<std::uintptr_t>(reinterpret_cast<void*>(address)) -
                      reinterpret_cast<std::uintptr_t>(reinterpret_cast<void*>(start));
  return offset <= size && bytes <= size - offset;
}

void run_until(StreamTag& stream, std::uint64_t position) {
  while (stream.n_done < position) {
    auto work = std::move(stream.work.front());
    stream.work.pop_front();
    ++stream.n_done;
    if (state().sticky == 0) work();
  }
}
void run_all() {
  for (auto& [handle, stream] : state().streams) run_until(*stream, stream->n_queued);
}
void queue(Stream stream, std::function<void()> work) {
  stream->work.push_back(std::move(work));
  ++stream->n_queued;
}

std::byte* bytes_at(std::uint64_t address) { return reinterpret_cast<std::byte*>(address); }

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

std::string leaks() {
  std::ostringstream text;
  const auto& s = state();
  if (!s.memory.empty()) text << s.memory.size() << " allocations ";
  if (!s.pinned.empty()) text << s.pinned.size() << " pinned ";
  if (!s.streams.empty()) text << s.streams.size() << " streams ";
  if (!s.events.empty()) text << s.events.size() << " events ";
  if (!s.modules.empty()) text << s.modules.size() << " modules ";
  for (const auto& [device, n] : s.n_retained)
    if (n != 0) text << n << " contexts of device " << device << " ";
  return text.str();
}

void reset() {
  for (const auto& [address, size] : state().memory) std::free(bytes_at(address));
  for (const auto& [memory, size] : state().pinned) std::free(memory);
  state() = State();
  control() = DriverStandIn();
  control().leaks = leaks;
  control().reset = reset;
  current_context = nullptr;
}

}  // namespace

EXPORTED DriverStandIn* cuda_driver_stand_in() {
  if (control().reset == nullptr) reset();
  return &control();
}

Result cuInit(unsigned flags) {
  ENTER(nothing);
  if (flags != 0) return violation(__func__, "flags", kInvalidValue);
  state().is_initialized = true;
  return control().n_devices == 0 ? kNoDevice : 0;
}

Result cuDriverGetVersion(int* version) {
  ENTER(nothing);
  *version = 12040;
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
    default:
      return violation(__func__, "attribute", kInvalidValue);
  }
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
  *context = &library().contexts.at(static_cast<std::size_t>(device));
  return 0;
}

// What releases does so even where it fails: the driver then reports an earlier fault.
Result cuDevicePrimaryCtxRelease_v2(DeviceHandle device) {
  const Result result = enter(__func__, Needs::driver);
  if (state().n_retained[device] == 0) return violation(__func__, "not retained", kInvalidContext);
  --state().n_retained[device];
  return result;
}

Result cuCtxSetCurrent(Context context) {
  ENTER(driver);
  const auto& contexts = library().contexts;
  const bool is_known = std::any_of(contexts.begin(), contexts.end(),
                                    [&](const ContextTag& each) { return &each == context; });
  if (context != nullptr && !is_known) return violation(__func__, "context", kInvalidContext);
  current_context = context;
  return 0;
}

Result cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  ENTER(context);
  *free = control().memory_bytes - state().used_bytes;
  *total = control().memory_bytes;
  return 0;
}

Result cuMemAlloc_v2(std::uint64_t* address, std::size_t bytes) {
  ENTER(context);
  if (bytes == 0) return violation(__func__, "no bytes", kInvalidValue);
  if (bytes > control().memory_bytes - state().used_bytes) return kOutOfMemory;
  void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(memory, 0xcd, bytes);
  *address = reinterpret_cast<std::uint64_t>(memory);
  state().memory[*address] = bytes;
  state().used_bytes += bytes;
  return 0;
}

Result cuMemFree_v2(std::uint64_t address) {
  const Result result = enter(__func__, Needs::context);
  const auto found = state().memory.find(address);
  if (found == state().memory.end()) return violation(__func__, "address", kInvalidValue);
  run_all();
  state().used_bytes -= found->second;
  state().memory.erase(found);
  std::free(bytes_at(address));
  return result;
}

Result cuMemsetD8Async(std::uint64_t address, unsigned char value, std::size_t bytes,
                       Stream stream) {
  ENTER(context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (bytes == 0 || !covers(state().memory, address, bytes))
    return violation(__func__, "range", kInvalidValue);
  queue(stream, [=] { std::memset(bytes_at(address), value, bytes); });
  return 0;
}

Result cuMemcpyHtoDAsync_v2(std::uint64_t target, const void* source, std::size_t bytes,
                            Stream stream) {
  ENTER(context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (bytes == 0 || !covers(state().memory, target, bytes))
    return violation(__func__, "range", kInvalidValue);
  if (!covers(state().pinned, const_cast<void*>(source), bytes))
    return violation(__func__, "the source is not pinned", kInvalidValue);
  queue(stream, [=] { std::memcpy(bytes_at(target), source, bytes); });
  return 0;
}

Result cuMemcpyDtoHAsync_v2(void* target, std::uint64_t source, std::size_t bytes, Stream stream) {
  ENTER(context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (target == nullptr || bytes == 0 || !covers(state().memory, source, bytes))
    return violation(__func__, "range", kInvalidValue);
  queue(stream, [=] { std::memcpy(target, bytes_at(source), bytes); });
  // As documented: into memory that is not pinned it returns when the copy is done.
  if (!covers(state().pinned, target, bytes)) run_until(*stream, stream->n_queued);
  return 0;
}

Result cuMemHostAlloc(void** memory, std::size_t bytes, unsigned flags) {
  ENTER(context);
  if (bytes == 0 || flags != 0) return violation(__func__, "arguments", kInvalidValue);
  *memory = std::malloc(bytes);
  state().pinned[*memory] = bytes;
  return 0;
}

Result cuMemFreeHost(void* memory) {
  const Result result = enter(__func__, Needs::context);
  run_all();
  if (state().pinned.erase(memory) == 0) return violation(__func__, "address", kInvalidValue);
  std::free(memory);
  return result;
}

Result cuStreamCreate(Stream* stream, unsigned flags) {
  ENTER(context);
  if (flags > 1) return violation(__func__, "flags", kInvalidValue);
  auto made = std::make_unique<StreamTag>();
  *stream = made.get();
  state().streams[*stream] = std::move(made);
  return 0;
}

Result cuStreamDestroy_v2(Stream stream) {
  const Result result = enter(__func__, Needs::context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  run_until(*stream, stream->n_queued);
  state().streams.erase(stream);
  return result;
}

Result cuStreamSynchronize(Stream stream) {
  ENTER(context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  run_until(*stream, stream->n_queued);
  return state().sticky;
}

Result cuEventCreate(Event* event, unsigned flags) {
  ENTER(context);
  if (flags > 7) return violation(__func__, "flags", kInvalidValue);
  auto made = std::make_unique<EventTag>();
  *event = made.get();
  state().events[*event] = std::move(made);
  return 0;
}

Result cuEventDestroy_v2(Event event) {
  const Result result = enter(__func__, Needs::context);
  if (state().events.erase(event) == 0) return violation(__func__, "event", kInvalidHandle);
  return result;
}

Result cuEventRecord(Event event, Stream stream) {
  ENTER(context);
  if (!state().events.contains(event) || !state().streams.contains(stream))
    return violation(__func__, "handle", kInvalidHandle);
  *event = {stream, stream->n_queued};
  return 0;
}

Result cuEventSynchronize(Event event) {
  ENTER(context);
  if (!state().events.contains(event)) return violation(__func__, "event", kInvalidHandle);
  if (event->stream == nullptr) return violation(__func__, "never recorded", kInvalidHandle);
  run_until(*event->stream, event->position);
  return state().sticky;
}

Result cuModuleLoadData(Module* module, const void* image) {
  ENTER(context);
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
  if (attribute != kFunctionMaxDynamicSharedBytes || value < 0 || value > kMaxSharedBytes)
    return violation(__func__, "attribute", kInvalidValue);
  function->shared_limit_bytes = value;
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
  if (extra != nullptr || config->n_attributes != 0)
    return violation(__func__, "attributes", kInvalidValue);

  std::vector<std::uint64_t> values;
  for (std::size_t i = 0; i < function->params.size(); ++i) {
    const char kind = function->params[i];
    values.push_back(0);
    std::memcpy(&values.back(), params[i], kind == 'i' ? 4 : 8);
    if (kind == 'p' && !covers(state().memory, values[i], 1))
      return violation(__func__, "argument " + std::to_string(i) + " points nowhere",
                       kInvalidValue);
    if (kind == 's' && values[i] != 0)
      return violation(__func__, "scratch is not null", kInvalidValue);
  }
  control().launches.push_back({function->symbol,
                                {grid_x, grid_y, grid_z},
                                {config->block[0], config->block[1], config->block[2]},
                                config->shared_bytes});
  const auto symbol = function->symbol;
  const bool computes = function->params.starts_with("ppi");
  queue(config->stream, [=] {
    if (control().fail_kernel == symbol) {
      state().sticky = kLaunchFailed;
      return;
    }
    if (!computes) return;
    if (!covers(state().memory, values[0], values[2]) ||
        !covers(state().memory, values[1], values[2])) {
      violation("kernel", "out of bounds", 0);
      return;
    }
    for (std::uint64_t i = 0; i < values[2]; ++i)
      bytes_at(values[0])[i] = static_cast<std::byte>(static_cast<int>(bytes_at(values[1])[i]) + 1);
  });
  return 0;
}

}  // namespace nereid::device::cuda
