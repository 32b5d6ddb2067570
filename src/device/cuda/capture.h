// Goal: a step's launches as one CUDA graph: recorded from the queue, launched as one.
// Non-goal: changing a graph afterwards. What differs between steps is read from device memory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "device/cuda/session.h"
#include "device/device.h"

namespace nereid::device::cuda {

class CapturedGraph final : public CapturedWork {
 public:
  // What `work` queues on the session's stream. Its own Error comes through.
  CapturedGraph(Session& session, const std::function<void(CapturedGraph&)>& work);
  ~CapturedGraph() override;
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  void add_kernel(const std::string& symbol) { kernels_.push_back(&symbol); }
  void launch() const;

 private:
  Graph record(const std::function<void(CapturedGraph&)>& work);

  Session& session_;
  GraphExec executable_ = nullptr;
  std::vector<const std::string*> kernels_;  // symbols in order, for messages
};

}  // namespace nereid::device::cuda
