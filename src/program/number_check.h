// Goal: for debugging, what a launch left that is NaN or infinite, said in the model's terms: the
// layer, the operation, its weights.
// Non-goal: speed. Every result is copied to the host; a step is run launch by launch.
// Rejected: a kernel that counts: it would have to be compiled for every model, for the one time in
// its life that somebody asks.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "device/device.h"
#include "graph/ir.h"
#include "graph/sizes.h"

namespace nereid::program {

// Of floats of this type, packed. 0 for integers.
std::size_t count_not_finite(std::span<const std::byte> elements, DType dtype);

class NumberCheck {
 public:
  NumberCheck(device::Device& device, const graph::Graph& graph, const graph::Sizes& sizes,
              std::span<const device::Address> addresses);  // by ValueId

  // Empty where all that the node computed is finite, else for people: "layer 1, linear %13 [T,
  // 256] of model.layers.1.mlp.down_proj.weight: 3 of 512 numbers; 1 of the weight's is not
  // finite". Once the node's launch is done.
  std::string odd_results(std::size_t node) const;

 private:
  bool is_result(graph::ValueId id) const;
  std::size_t count(graph::ValueId id, std::size_t begin_bytes = 0) const;
  std::size_t begin_bytes(const graph::Node& node, graph::ValueId id) const;

  device::Device& device_;
  const graph::Graph& graph_;
  const graph::Sizes sizes_;
  const std::span<const device::Address> addresses_;
};

}  // namespace nereid::program
