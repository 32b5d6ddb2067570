#include "device/cuda/capture.h"

namespace nereid::device::cuda {

CapturedGraph::CapturedGraph(Session& session, const std::function<void(CapturedGraph&)>& work)
    : session_(session) {
  const auto& api = session_.api();
  const Graph graph = record(work);
  const auto made = api.graph_instantiate(&executable_, graph, 0ULL);
  const auto destroyed = api.graph_destroy(graph);
  // Else the first launch would bring it to the GPU, in the middle of a step.
  const auto sent = made == 0 ? api.graph_upload(executable_, session_.stream()) : 0;
  if (made == 0 && destroyed == 0 && sent == 0) return;
  if (made == 0) api.graph_exec_destroy(executable_);
  session_.check(made, api.graph_instantiate.symbol);
  session_.check(destroyed, api.graph_destroy.symbol);
  session_.check(sent, api.graph_upload.symbol);
}

Graph CapturedGraph::record(const std::function<void(CapturedGraph&)>& work) {
  const auto& api = session_.api();
  Graph graph = nullptr;
  session_.make_current();
  session_.call(api.capture_begin, session_.stream(), kCaptureThreadLocal);
  try {
    work(*this);
  } catch (...) {
    // The queue must take work again, whatever became of this.
    api.capture_end(session_.stream(), &graph);
    if (graph != nullptr) api.graph_destroy(graph);
    throw;
  }
  session_.call(api.capture_end, session_.stream(), &graph);
  return graph;
}

CapturedGraph::~CapturedGraph() {
  session_.make_current_to_close();
  session_.api().graph_exec_destroy(executable_);
}

void CapturedGraph::launch() const {
  session_.make_current();
  const auto& api = session_.api();
  const auto result = api.graph_launch(executable_, session_.stream());
  for (const auto* symbol : kernels_) session_.note_launch(*symbol);
  session_.check(result, api.graph_launch.symbol);
}

}  // namespace nereid::device::cuda
