// Goal: a model's weights quantised by the kernels that do so when one is loaded, and written as a
// compressed-tensors snapshot: some rows at a time, so that memory does not grow with the model.
// Non-goal: the directory (model/snapshot_writer.h), what config.json says
// (model/quantization_config.h), quantising by examples of text.
// Rejected: converting what a program has loaded. Its weights are packed and split as its graph
// likes, and all of them are there at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "device/device.h"
#include "model/config.h"
#include "program/lower.h"

namespace nereid::program {

struct QuantizeOptions {
  std::filesystem::path model_dir, out_dir;
  std::string format;     // int8, fp8, int4
  bool has_head = false;  // the head is quantised too; not of int4
  std::int64_t max_shard_bytes = 5'000'000'000;
  std::filesystem::path bundle_dir = {};  // as Options has it
};

struct QuantizeReport {
  std::size_t n_quantized = 0, n_kept = 0;  // tensors of the model
  std::size_t bytes_before = 0, bytes_after = 0;
  std::size_t n_shards = 0;
};

// An Error says what the model, the directory, the disk or the device lacks, that the model is
// quantised already, or which weights are not numbers to quantise; then nothing was written.
// `progress` may throw, to give up.
QuantizeReport quantize_model(device::Device& device, const model::ModelConfig& config,
                              const QuantizeOptions& options, const ProgressSink& progress = {});

// The variants that this launches for a model whose weights are all of the config's type: what a
// bundle is to hold.
std::vector<kernel::KernelRequest> quantize_model_requests(const model::ModelConfig& config,
                                                           const std::string& format,
                                                           const std::string& target,
                                                           const KernelTables& tables);

}  // namespace nereid::program
