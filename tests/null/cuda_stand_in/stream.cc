// Streams, events, and captures that become graphs.
#include <utility>

#include "null/cuda_stand_in/state.h"

namespace nereid::device::cuda {

Result cuStreamCreate(Stream* stream, unsigned flags) {
  ENTER_OUTSIDE_CAPTURE();
  if (flags > 1) return violation(__func__, "flags", kInvalidValue);
  auto made = std::make_unique<StreamTag>();
  *stream = made.get();
  state().streams[*stream] = std::move(made);
  return 0;
}

Result cuStreamDestroy_v2(Stream stream) {
  ONE_AT_A_TIME();
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
  ONE_AT_A_TIME();
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
  stream->capturing_thread = std::this_thread::get_id();
  stream->is_capture_broken = false;
  stream->captured.clear();
  return 0;
}

// The capture ends whatever the answer.
Result cuStreamEndCapture(Stream stream, Graph* graph) {
  ONE_AT_A_TIME();
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
  ONE_AT_A_TIME();
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
  ONE_AT_A_TIME();
  const Result result = enter(__func__, Needs::context);
  if (state().executables.erase(executable) == 0)
    return violation(__func__, "graph", kInvalidHandle);
  return result;
}

}  // namespace nereid::device::cuda
