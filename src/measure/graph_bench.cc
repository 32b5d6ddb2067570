#include "measure/graph_bench.h"

#include <algorithm>
#include <map>
#include <utility>

#include "measure/copies.h"
#include "measure/launch_bench.h"
#include "program/settings.h"

namespace nereid::measure {

namespace {

// What a launch reads and writes, as it is before that launch: views and what is written in place
// are the bytes of what they are of, once.
struct Operands {
  struct Root {
    std::size_t offset = 0;  // in a copy
    std::vector<std::byte> bytes;
  };
  std::map<graph::ValueId, Root> roots;
  std::size_t size_bytes = 0;  // of a copy

  Operands(program::GraphRunner& runner, const program::PlannedLaunch& launch) {
    const auto& graph = runner.plan().graph;
    for (const auto& [param, id] : launch.pointers) {
      if (id == graph::kNoValue) continue;
      const auto [root, within] = program::storage_place(graph, id);
      if (roots.contains(root)) continue;
      auto& made = roots[root];
      made.offset = size_bytes;
      made.bytes.resize(graph::value_bytes(graph.value(root), runner.sizes()));
      if (!made.bytes.empty())
        runner.device().download(made.bytes,
                                 runner.addresses().values[static_cast<std::size_t>(id)] - within);
      size_bytes += aligned(std::max<std::size_t>(made.bytes.size(), 1));
    }
  }
};

// Microseconds of a launch, over as many copies of its operands as pass what caches hold.
double median_us(program::GraphRunner& runner, const program::PlannedLaunch& launch,
                 int n_repeats) {
  auto& device = runner.device();
  auto& executor = runner.executor();
  const auto& graph = runner.plan().graph;
  const Operands operands(runner, launch);
  const auto pool_bytes = std::min(LaunchBench::kPoolBytes, device.free_bytes() / 4);
  const auto n_copies = std::clamp<std::size_t>(
      pool_bytes / std::max<std::size_t>(operands.size_bytes, 1), 2, kMaxCopies);
  const auto pool = device.allocate(std::max(n_copies * operands.size_bytes, kAlignmentBytes),
                                    "operands that are timed");
  device.prefer_large_pages(pool);
  const auto& variant = executor.variant_of(launch);
  const auto* function = executor.load(variant);
  std::vector<program::BoundLaunch> launches;
  for (std::size_t i = 0; i < n_copies; ++i) {
    auto addresses = runner.addresses();
    const auto copy = pool.address() + i * operands.size_bytes;
    for (const auto& [root, made] : operands.roots)
      if (!made.bytes.empty()) device.upload(copy + made.offset, made.bytes);
    for (const auto& [param, id] : launch.pointers)
      if (id != graph::kNoValue) {
        const auto [root, within] = program::storage_place(graph, id);
        addresses.values[static_cast<std::size_t>(id)] =
            copy + operands.roots.at(root).offset + within;
      }
    launches.push_back(program::bind(launch, variant, function, addresses));
  }
  device.synchronize();
  return median_us_of_round(device, std::move(launches), runner.sizes(), n_repeats);
}

}  // namespace

DType dot_dtype_of(const graph::Graph& graph, const std::string& target) {
  const auto half = std::ranges::find_if(graph.values, [](const graph::Value& value) {
    return value.dtype == DType::fp16 || value.dtype == DType::bf16;
  });
  return program::activation_dtype(target, half == graph.values.end() ? DType::fp32 : half->dtype);
}

KernelBenchResult run_graph_bench(program::GraphRunner& runner, const model::TensorMap& inputs,
                                  int n_repeats) {
  auto& device = runner.device();
  const auto& plan = runner.plan();
  std::size_t all_bytes = 0;
  for (const auto& value : plan.graph.values)
    all_bytes += graph::value_bytes(value, runner.sizes());
  KernelBenchResult result;
  result.device = device.info();
  result.limits = measure_limits(device, dot_dtype_of(plan.graph, device.info().target),
                                 runner.bundles(), std::max(LaunchBench::kPoolBytes, all_bytes));
  runner.send(inputs);
  for (const auto& launch : plan.launches) {
    if (launch.is_empty(plan.graph, runner.sizes())) continue;
    auto row = row_of(plan.graph, launch, runner.sizes());
    row.us = median_us(runner, launch, n_repeats);
    result.rows.push_back(std::move(row));
    // The next one reads what this one gives.
    auto& executor = runner.executor();
    const auto& variant = executor.variant_of(launch);
    program::bind(launch, variant, executor.load(variant), runner.addresses())
        .run(device, runner.sizes());
    device.synchronize();
  }
  return result;
}

}  // namespace nereid::measure
