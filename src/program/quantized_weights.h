// Goal: quantised weights in the form that kernels read (docs/quantization.md), at their addresses:
// made from floats, or brought into it from whatever form the checkpoint has.
// Non-goal: which weights those are (model/quantization.h).
// Rejected: converting on the host. It is arithmetic over every weight of a model: work for
// kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "graph/ir.h"
#include "model/checkpoint.h"
#include "model/quantization.h"
#include "program/random_fill.h"
#include "program/staging.h"
#include "program/weight_kernels.h"

namespace nereid::program {

// A weight [n_out, n_in] and what belongs to it.
struct QuantizedWeight {
  std::string name;  // of the values: "X.weight", "scale.X.weight"
  model::WeightFormat format = {};
  std::int64_t n_out = 0, n_in = 0;
  bool has_order = false;
  // Where they are to lie; q 0: it is used in place.
  device::Address q = 0, scale = 0, zero = 0, order = 0;

  // Of the tensor that has it, all rows; and the first of these that this is.
  std::int64_t n_stored() const;
  std::int64_t first_row() const;
  std::string module() const;  // "model.layers.0.mlp.up_proj"
};

// What makes a quantised weight of a checkpoint's tensors, or of floats.
std::vector<kernel::KernelRequest> weight_requests(const QuantizedWeight& weight,
                                                   const model::Quantization& quantization,
                                                   DType floats, const std::string& target,
                                                   const KernelTables& tables);

// Those of a graph, each once, without addresses; packed ones as their parts.
std::vector<QuantizedWeight> quantized_weights(const graph::Graph& graph);

class QuantizedLoader {
 public:
  // `kernels` is asked when first needed, and may wait until they are there.
  QuantizedLoader(device::Device& device, const model::Quantization& quantization,
                  std::function<WeightKernels&()> kernels)
      : device_(device),
        quantization_(quantization),
        kernels_(std::move(kernels)),
        staging_(device) {}

  // An Error names the tensor that is missing, of another shape or type than config.json makes it,
  // or that holds numbers that are not finite, or scales that are 0.
  void load(const QuantizedWeight& weight, const model::Checkpoint& checkpoint);

  // Of random numbers: normal, of this standard deviation.
  void randomise(const QuantizedWeight& weight, RandomFill& fill, DType dtype, std::int64_t seed,
                 double standard_deviation);

 private:
  // Of the checkpoint, held against a type and a shape.
  HostTensor tensor(const model::Checkpoint& checkpoint, const std::string& name, DType dtype,
                    const Shape& shape);
  void load_floats(const QuantizedWeight& weight, const model::Checkpoint& checkpoint);
  void load_rows(const QuantizedWeight& weight, const model::Checkpoint& checkpoint);
  void load_packed(const QuantizedWeight& weight, const model::Checkpoint& checkpoint);
  // Of scales as they are stored, those of each row and group of the weight: [n_out, G].
  std::vector<std::size_t> scale_places(const QuantizedWeight& weight, const HostTensor& scale,
                                        const std::string& name) const;
  void load_scales(const QuantizedWeight& weight, const model::Checkpoint& checkpoint);
  void load_order(const QuantizedWeight& weight, const model::Checkpoint& checkpoint);
  // Gives the address of floats of the weight, from a byte of theirs on.
  using RowSource = std::function<device::Address(std::size_t begin_bytes, std::size_t n_bytes)>;
  void quantize(const QuantizedWeight& weight, DType dtype, const RowSource& rows);

  device::Device& device_;
  const model::Quantization& quantization_;
  std::function<WeightKernels&()> kernels_;
  Staging staging_;
  std::vector<std::byte> columns_;  // of the tensor read last, where it is not all of them
};

// Whether the loader leaves the elements of such weights as the checkpoint has them, so that a
// device which reads host memory may use them where they are mapped.
bool is_stored_as_read(const model::Quantization& quantization);

}  // namespace nereid::program
