// Length: one driver, whose calls all check and change the same few tables of memory, streams and
// captures.
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

using Work = std::function<void(bool is_replayed)>;

struct ContextTag {};
struct StreamTag {
  std::deque<std::function<void()>> work;  // done when somebody waits, never before
  std::uint64_t n_queued = 0, n_done = 0;
  bool is_capturing = false, is_capture_broken = false;
  std::vector<Work> captured;
};
struct EventTag {
  bool has_timing = false;
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
struct MemoryPoolTag {
  std::size_t reserved_bytes = 0, used_bytes = 0;
  std::uint64_t release_threshold = 0;
};
struct GraphTag {
  std::vector<Work> work;
};
struct GraphExecTag {
  std::vector<Work> work;
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
constexpr Result kCaptureUnsupported = 900;
constexpr Result kCaptureInvalidated = 901;
constexpr int kMaxSharedBytes = 227 * 1024;
constexpr char kMapMark[] = "tensorm";  // 8 bytes with its end
constexpr std::string_view kMagic =
    "\x7f"
    "ELF";

template <typename T>
using Handles = std::map<T*, std::unique_ptr<T>>;

struct State {
  bool is_initialized = false;
  int sticky = 0;  // of a kernel that failed: the context is lost
  std::map<DeviceHandle, int> n_retained;
  // What a call may name, and what is still there for the work queued before it was freed.
  std::map<std::uint64_t, std::size_t> memory, memory_of_work;
  std::map<void*, std::size_t> pinned;
  Handles<StreamTag> streams;
  Handles<EventTag> events;
  Handles<ModuleTag> modules;
  Handles<MemoryPoolTag> pools;
  Handles<GraphTag> graphs;
  Handles<GraphExecTag> executables;
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

// Calls that wait, or take or give memory, break a capture that is under way.
Result enter_outside_capture(const char* call) {
  const Result result = enter(call, Needs::context);
  if (result != 0) return result;
  for (auto& [handle, stream] : state().streams)
    if (stream->is_capturing) {
      stream->is_capture_broken = true;
      return violation(call, "within a capture", kCaptureUnsupported);
    }
  return 0;
}

#define ENTER_OUTSIDE_CAPTURE() \
  if (const Result entered = enter_outside_capture(__func__); entered != 0) return entered
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
void queue(Stream stream, Work work) {
  if (stream->is_capturing) {
    stream->captured.push_back(std::move(work));
    return;
  }
  stream->work.emplace_back([work = std::move(work)] { work(false); });
  ++stream->n_queued;
}

// Captured work may run long after its call was checked.
bool is_alive(const char* call, std::uint64_t address, std::size_t bytes) {
  if (covers(state().memory_of_work, address, bytes)) return true;
  violation(call, "its memory was freed before it ran", 0);
  return false;
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
  if (!s.pools.empty()) text << s.pools.size() << " pools ";
  if (!s.graphs.empty()) text << s.graphs.size() << " graphs ";
  if (!s.executables.empty()) text << s.executables.size() << " executable graphs ";
  for (const auto& [device, n] : s.n_retained)
    if (n != 0) text << n << " contexts of device " << device << " ";
  return text.str();
}

bool is_pointer(char kind, std::uint64_t value) {
  return kind == 'p' || (kind == 'o' && value != 0);
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
    if (is_pointer(kinds[i], launch.args[i]) && !is_alive("kernel", launch.args[i], 1)) return;
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

void reset() {
  for (const auto& [address, size] : state().memory_of_work) std::free(bytes_at(address));
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
  *free = control().memory_bytes;
  for (const auto& [handle, pool] : state().pools) *free -= pool->reserved_bytes;
  *total = control().memory_bytes;
  return 0;
}

Result cuMemPoolCreate(MemoryPool* pool, const PoolProperties* wanted) {
  ENTER_OUTSIDE_CAPTURE();
  PoolProperties expected{};
  expected.allocation_type = kAllocationPinned;
  expected.location_type = kLocationDevice;
  expected.location_id = wanted->location_id;
  if (!is_device(wanted->location_id) || std::memcmp(wanted, &expected, sizeof(expected)) != 0)
    return violation(__func__, "properties", kInvalidValue);
  auto made = std::make_unique<MemoryPoolTag>();
  *pool = made.get();
  state().pools[*pool] = std::move(made);
  return 0;
}

Result cuMemPoolDestroy(MemoryPool pool) {
  const Result result = enter(__func__, Needs::context);
  if (state().pools.erase(pool) == 0) return violation(__func__, "pool", kInvalidHandle);
  return result;
}

Result cuMemPoolGetAttribute(MemoryPool pool, int attribute, void* value) {
  ENTER(context);
  if (!state().pools.contains(pool)) return violation(__func__, "pool", kInvalidHandle);
  if (attribute != kPoolReservedBytes && attribute != kPoolUsedBytes)
    return violation(__func__, "attribute", kInvalidValue);
  *static_cast<std::uint64_t*>(value) =
      attribute == kPoolReservedBytes ? pool->reserved_bytes : pool->used_bytes;
  return 0;
}

Result cuMemPoolSetAttribute(MemoryPool pool, int attribute, void* value) {
  ENTER(context);
  if (!state().pools.contains(pool)) return violation(__func__, "pool", kInvalidHandle);
  if (attribute != kPoolReleaseThreshold) return violation(__func__, "attribute", kInvalidValue);
  pool->release_threshold = *static_cast<const std::uint64_t*>(value);
  return 0;
}

Result cuMemAllocFromPoolAsync(std::uint64_t* address, std::size_t bytes, MemoryPool pool,
                               Stream stream) {
  ENTER_OUTSIDE_CAPTURE();
  if (!state().pools.contains(pool) || !state().streams.contains(stream))
    return violation(__func__, "handle", kInvalidHandle);
  if (bytes == 0) return violation(__func__, "no bytes", kInvalidValue);
  if (bytes > control().memory_bytes - pool->used_bytes) return kOutOfMemory;
  void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(memory, 0xcd, bytes);
  *address = reinterpret_cast<std::uint64_t>(memory);
  state().memory[*address] = bytes;
  state().memory_of_work[*address] = bytes;
  pool->used_bytes += bytes;
  pool->reserved_bytes = std::max(pool->reserved_bytes, pool->used_bytes);
  return 0;
}

// In the order of the stream: what is queued before it still finds the memory.
Result cuMemFreeAsync(std::uint64_t address, Stream stream) {
  const Result result = enter(__func__, Needs::context);
  const auto found = state().memory.find(address);
  if (found == state().memory.end()) return violation(__func__, "address", kInvalidValue);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (stream->is_capturing) return violation(__func__, "within a capture", kCaptureUnsupported);
  for (const auto& [handle, pool] : state().pools) pool->used_bytes -= found->second;
  state().memory.erase(found);
  stream->work.emplace_back([address] {
    state().memory_of_work.erase(address);
    std::free(bytes_at(address));
  });
  ++stream->n_queued;
  return result;
}

Result cuMemsetD8Async(std::uint64_t address, unsigned char value, std::size_t bytes,
                       Stream stream) {
  ENTER(context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (bytes == 0 || !covers(state().memory, address, bytes))
    return violation(__func__, "range", kInvalidValue);
  queue(stream, [=](bool) {
    if (is_alive("cuMemsetD8Async", address, bytes)) std::memset(bytes_at(address), value, bytes);
  });
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
  queue(stream, [=](bool) {
    if (is_alive("cuMemcpyHtoDAsync", target, bytes)) std::memcpy(bytes_at(target), source, bytes);
  });
  return 0;
}

Result cuMemcpyDtoHAsync_v2(void* target, std::uint64_t source, std::size_t bytes, Stream stream) {
  ENTER(context);
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (target == nullptr || bytes == 0 || !covers(state().memory, source, bytes))
    return violation(__func__, "range", kInvalidValue);
  const bool is_pinned = covers(state().pinned, target, bytes);
  if (stream->is_capturing && !is_pinned)
    return violation(__func__, "a captured copy to memory that is not pinned", kInvalidValue);
  queue(stream, [=](bool) {
    if (is_alive("cuMemcpyDtoHAsync", source, bytes)) std::memcpy(target, bytes_at(source), bytes);
  });
  // As documented: into memory that is not pinned it returns when the copy is done.
  if (!is_pinned) run_until(*stream, stream->n_queued);
  return 0;
}

Result cuMemHostAlloc(void** memory, std::size_t bytes, unsigned flags) {
  ENTER_OUTSIDE_CAPTURE();
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
  ENTER_OUTSIDE_CAPTURE();
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
  ENTER_OUTSIDE_CAPTURE();
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  run_until(*stream, stream->n_queued);
  return state().sticky;
}

Result cuEventCreate(Event* event, unsigned flags) {
  ENTER(context);
  if (flags > 7) return violation(__func__, "flags", kInvalidValue);
  auto made = std::make_unique<EventTag>();
  made->has_timing = (flags & 2) == 0;
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
  ENTER_OUTSIDE_CAPTURE();
  if (!state().events.contains(event) || !state().streams.contains(stream))
    return violation(__func__, "handle", kInvalidHandle);
  event->stream = stream;
  event->position = stream->n_queued;
  return 0;
}

Result cuEventSynchronize(Event event) {
  ENTER_OUTSIDE_CAPTURE();
  if (!state().events.contains(event)) return violation(__func__, "event", kInvalidHandle);
  if (event->stream == nullptr) return violation(__func__, "never recorded", kInvalidHandle);
  run_until(*event->stream, event->position);
  return state().sticky;
}

Result cuEventElapsedTime(float* ms, Event begin, Event end) {
  ENTER(context);
  for (const Event event : {begin, end}) {
    if (!state().events.contains(event)) return violation(__func__, "event", kInvalidHandle);
    if (!event->has_timing || event->stream == nullptr || event->stream->n_done < event->position)
      return violation(__func__, "an event without a time", kInvalidHandle);
  }
  *ms = static_cast<float>(end->position - begin->position);
  return 0;
}

Result cuStreamBeginCapture_v2(Stream stream, int mode) {
  ENTER_OUTSIDE_CAPTURE();
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (mode < 0 || mode > 2) return violation(__func__, "mode", kInvalidValue);
  stream->is_capturing = true;
  stream->is_capture_broken = false;
  stream->captured.clear();
  return 0;
}

// The capture ends whatever the answer.
Result cuStreamEndCapture(Stream stream, Graph* graph) {
  const Result result = enter(__func__, Needs::context);
  *graph = nullptr;
  if (!state().streams.contains(stream)) return violation(__func__, "stream", kInvalidHandle);
  if (!stream->is_capturing) return violation(__func__, "nothing is captured", kInvalidValue);
  stream->is_capturing = false;
  auto work = std::move(stream->captured);
  stream->captured.clear();
  if (result != 0) return result;
  if (stream->is_capture_broken) return kCaptureInvalidated;
  auto made = std::make_unique<GraphTag>(GraphTag{std::move(work)});
  *graph = made.get();
  state().graphs[*graph] = std::move(made);
  return 0;
}

Result cuGraphInstantiateWithFlags(GraphExec* executable, Graph graph, unsigned long long flags) {
  ENTER_OUTSIDE_CAPTURE();
  if (!state().graphs.contains(graph)) return violation(__func__, "graph", kInvalidHandle);
  if (flags != 0) return violation(__func__, "flags", kInvalidValue);
  auto made = std::make_unique<GraphExecTag>(GraphExecTag{graph->work});
  *executable = made.get();
  state().executables[*executable] = std::move(made);
  return 0;
}

Result cuGraphDestroy(Graph graph) {
  const Result result = enter(__func__, Needs::context);
  if (state().graphs.erase(graph) == 0) return violation(__func__, "graph", kInvalidHandle);
  return result;
}

Result cuGraphUpload(GraphExec executable, Stream stream) {
  ENTER_OUTSIDE_CAPTURE();
  if (!state().executables.contains(executable) || !state().streams.contains(stream))
    return violation(__func__, "handle", kInvalidHandle);
  return 0;
}

Result cuGraphLaunch(GraphExec executable, Stream stream) {
  ENTER_OUTSIDE_CAPTURE();
  if (!state().executables.contains(executable) || !state().streams.contains(stream))
    return violation(__func__, "handle", kInvalidHandle);
  // The graph may be destroyed while it runs.
  queue(stream, [work = executable->work](bool) {
    for (const auto& each : work)
      if (state().sticky == 0) each(true);
  });
  return 0;
}

Result cuGraphExecDestroy(GraphExec executable) {
  const Result result = enter(__func__, Needs::context);
  if (state().executables.erase(executable) == 0)
    return violation(__func__, "graph", kInvalidHandle);
  return result;
}

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
    if (is_pointer(kind, value) && !covers(state().memory, value, 1))
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
