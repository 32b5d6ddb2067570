// Goal: each kernel of a model's layer and head by itself, exactly as the planner launches it, on
// weights and keys that come from memory and not from a cache; beside the limits of the device.
// Non-goal: tuning (which tries other choices), whole steps (end_to_end.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/device.h"
#include "measure/limits.h"
#include "nereid/options.h"
#include "program/lower.h"

namespace nereid::measure {

struct KernelBenchOptions {
  Options engine;
  // Tokens of a step. Up to 16 they are of as many sequences, else of one.
  std::vector<std::int64_t> rows{1, 2, 4, 8, 16, 44, 64, 1024};
  int n_repeats = 7;
  bool has_all = false;  // every kernel, not only products and attention
};

struct KernelRow {
  std::string op;    // "linear", "attention"; of others the graph's name
  std::string name;  // "self_attn.qkv_proj", "prefill", "decode"
  std::string kernel;
  std::string grid, choice;
  std::string shape;  // of what it gives, where the following say nothing
  std::int64_t n_rows = 0, n_out = 0, n_in = 0;          // linear: of the weight [n_out, n_in]
  std::int64_t n_batch = 0, n_query = 0, n_context = 0;  // attention
  double us = 0;                                         // median
  double bytes = 0, flops = 0;
};

struct KernelBenchResult {
  device::DeviceInfo device;
  std::string weights;  // weights_name of model_cost.h
  Limits limits;
  std::vector<KernelRow> rows;
};

// A launch as its Spec tells it: kernel, grid, choice, cost.
KernelRow row_of(const graph::Graph& graph, const program::PlannedLaunch& launch,
                 const graph::Sizes& sizes);

KernelBenchResult run_kernel_bench(const KernelBenchOptions& options);

}  // namespace nereid::measure
