// Goal: each launch of a graph by itself, as it ran: on copies of what it read then, of which there
// are so many that no cache holds them; beside the limits of the device.
// Non-goal: models (kernel_bench.h), whose operands need not be looked at.
#pragma once

#include <string>

#include "measure/kernel_bench.h"
#include "program/graph_runner.h"

namespace nereid::measure {

// In which type products of such a graph are limited on the target: that of its values of 16 bits
// where there are some, as for models.
DType dot_dtype_of(const graph::Graph& graph, const std::string& target);

// Samples a launch, of which the median is told. The runner has run with these inputs.
KernelBenchResult run_graph_bench(program::GraphRunner& runner, const model::TensorMap& inputs,
                                  int n_repeats);

}  // namespace nereid::measure
