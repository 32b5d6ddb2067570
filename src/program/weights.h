// Goal: a graph's weights at device addresses, each once, whatever the number of plans that read
// it; those that the graph packs, below one another; those that are quantised, made so.
// Non-goal: reading files (model/checkpoint.h), choosing layouts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "device/device.h"
#include "graph/ir.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/quantization.h"
#include "model/shard.h"
#include "program/quantized_weights.h"
#include "program/random_fill.h"

namespace nereid::program {

// Weights of which the graph makes one, below one another: each, and where in that it lies.
struct PackedPart {
  graph::ValueId part, packed;
  std::size_t offset;  // in bytes
};
std::vector<PackedPart> packed_parts(const graph::Graph& graph);

class Weights {
 public:
  // `shard`: of the model whose graph it is.
  Weights(device::Device& device, const model::Shard& shard) : device_(device), shard_(shard) {}

  // Gives the kernels that make quantised weights, which may be waited for.
  using KernelsOf = std::function<WeightKernels&()>;

  // From the checkpoint: uploaded, or used where they are mapped if the device reads host memory
  // and they are many. `quantization`: of those that the graph has.
  // An Error names a tensor that is missing or of another shape than the config makes it.
  void load(const graph::Graph& graph, const model::ModelConfig& config,
            const std::optional<model::Quantization>& quantization,
            std::shared_ptr<const model::Checkpoint> checkpoint, const KernelsOf& kernels,
            const ProgressSink& progress = {});

  // Without a checkpoint: made on the device.
  void randomise(const graph::Graph& graph, const model::ModelConfig& config,
                 const std::optional<model::Quantization>& quantization, const KernelsOf& kernels,
                 RandomFill& fill);

  device::Address address(const std::string& name) const;
  std::int64_t bytes() const { return bytes_; }
  // Of them: used where the checkpoint is mapped.
  std::int64_t mapped_bytes() const { return mapped_bytes_; }
  // All memory that they take, mapped or allocated, with what lies between them.
  std::int64_t memory_bytes() const;

 private:
  // A tensor of the checkpoint, at the beginning of `target` or in memory of its own.
  struct Part {
    const graph::Value* value;
    device::Address target;
  };
  // What is to be filled: every weight that a launch reads, packed ones as their parts; less those
  // that are used where the checkpoint is mapped.
  std::vector<Part> lay_out(const graph::Graph& graph);
  // Quantised ones are no parts: they get their addresses here.
  void place_quantized(std::vector<Part>& parts);
  std::optional<device::Address> mapped_address(const graph::Value& value) const;
  // Columns that are a part of a tensor's are copied into `storage`.
  HostTensor tensor_of(const graph::Value& value, std::vector<std::byte>& storage) const;
  void upload(const Part& part);
  void load_computed(const model::ModelConfig& config);

  device::Device& device_;
  const model::Shard shard_;
  std::shared_ptr<const model::Checkpoint> checkpoint_;  // what is used in place lies there
  bool may_use_mapped_ = false;
  const model::Quantization* quantization_ = nullptr;
  std::vector<QuantizedWeight> quantized_;
  std::vector<device::Buffer> buffers_;
  std::map<std::string, device::Address> addresses_;
  std::int64_t bytes_ = 0, mapped_bytes_ = 0;
};

}  // namespace nereid::program
