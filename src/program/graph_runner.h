// Goal: a graph on a device: tensors in by name, launches, tensors out; memory and kernels are kept
// from run to run while sizes stay.
// Non-goal: what is launched (graph_planner.h), how (executor.h).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "kernel/bundle_source.h"
#include "program/executor.h"
#include "program/graph_planner.h"

namespace nereid::program {

// Elements that a graph returned.
struct GraphOutput {
  std::string name;  // as the graph's text has it
  DType dtype = DType::fp32;
  Shape shape;
  std::vector<std::byte> bytes;
};

class GraphRunner {
 public:
  GraphRunner(device::Device& device, const std::filesystem::path& graph,
              const GraphOptions& options);
  ~GraphRunner();

  std::vector<GraphOutput> run(const model::TensorMap& inputs);

  // For measuring launches one by one, after a run.
  device::Device& device() { return device_; }
  const GraphPlanner& planner() const { return planner_; }
  const LaunchPlan& plan() const;
  const graph::Sizes& sizes() const;
  const Addresses& addresses() const;
  Executor& executor();
  // The inputs again, and what was compiled for: where a bundle for more is looked for.
  void send(const model::TensorMap& inputs);
  const kernel::BundleOptions& bundles() const { return bundles_; }

 private:
  struct Ready;

  void prepare(const GraphPlanner::Bound& bound);
  void launch();
  GraphOutput output(std::size_t index) const;

  device::Device& device_;
  const GraphPlanner planner_;
  const bool is_captured_;
  const kernel::BundleOptions bundles_;
  std::unique_ptr<Ready> ready_;
};

}  // namespace nereid::program
