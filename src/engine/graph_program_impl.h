// Goal: what a GraphProgram is made of, for those who measure it.
// Non-goal: an installed interface.
#pragma once

#include <memory>
#include <utility>

#include "device/device.h"
#include "nereid/graph_program.h"
#include "program/graph_runner.h"

namespace nereid {

struct GraphProgram::Impl {
  Impl(std::unique_ptr<device::Device> with, const std::filesystem::path& graph,
       const GraphOptions& options)
      : device(std::move(with)), runner(*device, graph, options) {}

  std::unique_ptr<device::Device> device;
  program::GraphRunner runner;
};

namespace engine {

// Views: the tensors must stay. An Error names a type that is none.
model::TensorMap views_of(const Tensors& tensors);

}  // namespace engine

}  // namespace nereid
