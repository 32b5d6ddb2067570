#include "null/cuda_stand_in/state.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <utility>

namespace nereid::device::cuda {

namespace {

struct Library {
  std::recursive_mutex one_at_a_time;
  DriverStandIn control;
  State state;
  std::array<ContextTag, 8> contexts;  // primary, one a device
};

Library& library() {
  static Library instance;
  return instance;
}

}  // namespace

std::recursive_mutex& one_at_a_time() { return library().one_at_a_time; }
DriverStandIn& control() { return library().control; }
State& state() { return library().state; }
Context primary_context(DeviceHandle device) {
  return &library().contexts.at(static_cast<std::size_t>(device));
}
bool is_primary_context(Context context) {
  const auto& contexts = library().contexts;
  return std::any_of(contexts.begin(), contexts.end(),
                     [&](const ContextTag& each) { return &each == context; });
}
Context& current_context() {
  thread_local Context current = nullptr;
  return current;
}

DeviceHandle current_device() {
  return static_cast<DeviceHandle>(current_context() - library().contexts.data());
}

Result violation(const char* call, std::string_view what, Result result) {
  control().violations.push_back(std::string(call) + ": " + std::string(what));
  return result;
}

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
  if (current_context() == nullptr) return violation(call, "no current context", kInvalidContext);
  if (state().n_retained[current_device()] == 0)
    return violation(call, "the current context was released", kInvalidContext);
  return state().sticky;
}

Result enter_outside_capture(const char* call) {
  const Result result = enter(call, Needs::context);
  if (result != 0) return result;
  for (auto& [handle, stream] : state().streams)
    if (stream->is_capturing && stream->capturing_thread == std::this_thread::get_id()) {
      stream->is_capture_broken = true;
      return violation(call, "within a capture", kCaptureUnsupported);
    }
  return 0;
}

bool is_device(DeviceHandle device) { return device >= 0 && device < control().n_devices; }

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

bool is_alive(const char* call, std::uint64_t address, std::size_t bytes) {
  if (covers(state().memory_of_work, address, bytes)) return true;
  violation(call, "its memory was freed before it ran", 0);
  return false;
}

std::byte* bytes_at(std::uint64_t address) { return reinterpret_cast<std::byte*>(address); }

namespace {

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

void reset() {
  for (const auto& [address, size] : state().memory_of_work) std::free(bytes_at(address));
  for (const auto& [memory, size] : state().pinned) std::free(memory);
  state() = State();
  control() = DriverStandIn();
  control().leaks = leaks;
  control().reset = reset;
  current_context() = nullptr;
}

}  // namespace

EXPORTED DriverStandIn* cuda_driver_stand_in() {
  if (control().reset == nullptr) reset();
  return &control();
}

}  // namespace nereid::device::cuda
