// Goal: what the calls of the driver stand-in check and change: memory, streams, captures.
// Non-goal: the calls; each file beside this one has those of one idea.
// Rejected: state for each idea alone. A launch looks into memory, a free waits for streams.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "device/cuda/driver_api.h"
#include "null/cuda_driver_stand_in.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace nereid::device::cuda {

// The table's own signatures: a definition that differs does not compile.
#define CUDA_DRIVER_FUNCTION(member, symbol, parameters) EXPORTED Result symbol parameters;
#include "device/cuda/driver_api.def"
#undef CUDA_DRIVER_FUNCTION

using Work = std::function<void(bool is_replayed)>;

struct ContextTag {};
struct StreamTag {
  std::deque<std::function<void()>> work;  // done when somebody waits, never before
  std::uint64_t n_queued = 0, n_done = 0;
  bool is_capturing = false, is_capture_broken = false;
  std::thread::id capturing_thread;
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
  int device = 0;
};
struct GraphTag {
  std::vector<Work> work;
};
struct GraphExecTag {
  std::vector<Work> work;
};

inline constexpr Result kInvalidValue = 1;
inline constexpr Result kNotInitialized = 3;
inline constexpr Result kNoDevice = 100;
inline constexpr Result kInvalidDevice = 101;
inline constexpr Result kInvalidImage = 200;
inline constexpr Result kInvalidContext = 201;
inline constexpr Result kInvalidHandle = 400;
inline constexpr Result kNotFound = 500;
inline constexpr Result kLaunchFailed = 719;
inline constexpr Result kCaptureUnsupported = 900;
inline constexpr Result kCaptureInvalidated = 901;
inline constexpr int kMaxSharedBytes = 227 * 1024;

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

DriverStandIn& control();
State& state();
Context primary_context(DeviceHandle device);
bool is_primary_context(Context context);
Context& current_context();  // of the calling thread
DeviceHandle current_device();

Result violation(const char* call, std::string_view what, Result result);

enum class Needs { nothing, driver, context };

// Counts the call; its result where it must fail before it does anything.
Result enter(const char* call, Needs needs);
// Calls that wait, or take or give memory, break a capture that is under way.
Result enter_outside_capture(const char* call);

// Calls of several threads come one after another.
std::recursive_mutex& one_at_a_time();
#define ONE_AT_A_TIME() const std::lock_guard only_call(one_at_a_time())
#define ENTER_OUTSIDE_CAPTURE() \
  ONE_AT_A_TIME();              \
  if (const Result entered = enter_outside_capture(__func__); entered != 0) return entered
#define ENTER(needs) \
  ONE_AT_A_TIME();   \
  if (const Result entered = enter(__func__, Needs::needs); entered != 0) return entered

bool is_device(DeviceHandle device);

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

void run_until(StreamTag& stream, std::uint64_t position);
void run_all();
void queue(Stream stream, Work work);
// Captured work may run long after its call was checked.
bool is_alive(const char* call, std::uint64_t address, std::size_t bytes);
std::byte* bytes_at(std::uint64_t address);

}  // namespace nereid::device::cuda
