// Goal: the kernels that make quantised weights (kernels/quantize_weight.py, unpack_weight.py), and
// words of them to be stored (pack_weight.py), as calls.
// Non-goal: what is made of what (quantized_weights.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "device/device.h"
#include "graph/ir.h"
#include "kernel/bundle.h"
#include "model/quantization.h"
#include "program/lower.h"

namespace nereid::program {

// Floats [n_rows, n_in] to q and scale, rows behind one another.
struct QuantizeProblem {
  DType source = DType::fp16;
  model::WeightFormat format = {};
  std::int64_t n_in = 0;
  kernel::KernelRequest request(const std::string& target, const KernelTables& tables) const;
};

// Words of several numbers each to q, or to zeros (unpack_weight.py).
struct UnpackProblem {
  model::WeightPacking packing = model::WeightPacking::compressed;
  DType q = DType::u8;
  bool is_of_zeros = false;
  bool has_order = false;
  std::int64_t n_in = 0;  // columns of what is made: groups, of zeros
  // Rows and columns of the whole of what is stored.
  std::int64_t n_stored = 0, n_stored_in = 0;
  std::int64_t zero_add = 0;

  bool is_along_rows() const;        // the numbers of a word are of rows below one another
  bool has_whole_rows() const;       // all words of a row lie side by side, and are of no other
  std::int64_t q_row_bytes() const;  // of what is made
  // From a row of q to the next, and from a column to the next, of words: of whole ones.
  std::int64_t row_stride() const;
  std::int64_t column_stride() const;
  std::int64_t n_fields() const { return q == DType::u8 ? 8 : 4; }  // of a word
  kernel::KernelRequest request(const std::string& target, const KernelTables& tables) const;
};

// q to words of several numbers each, as compressed-tensors stores them (pack_weight.py).
struct PackProblem {
  DType q = DType::u8;
  std::int64_t n_in = 0;

  std::int64_t n_words() const;  // of a row
  kernel::KernelRequest request(const std::string& target, const KernelTables& tables) const;
};

class WeightKernels {
 public:
  // All outlive it. The bundle has what requests_for asks for.
  WeightKernels(device::Device& device, kernel::Bundle& bundle, const KernelTables& tables);

  // Queued. `source`, `q` and `scale` are multiples of 16 bytes.
  void quantize(const QuantizeProblem& problem, device::Address source, std::int64_t n_rows,
                device::Address q, device::Address scale);

  // Queued. `source`: the first of the words of the rows; `order` 0: as they are.
  void unpack(const UnpackProblem& problem, device::Address source, device::Address order,
              std::int64_t n_rows, device::Address target);

  // Queued. `q` and `words` are multiples of 16 bytes.
  void pack(const PackProblem& problem, device::Address q, std::int64_t n_rows,
            device::Address words);

  // Waits for all that was queued. An Error names the tensor where numbers that were quantised
  // since the last call are not finite, or too large for a scale.
  void refuse_bad(const std::string& tensor);

 private:
  using Loaded = std::pair<const kernel::Variant*, const device::Function*>;
  const Loaded& load(const kernel::KernelRequest& request);

  device::Device& device_;
  kernel::Bundle& bundle_;
  const KernelTables& tables_;
  device::Buffer bad_;  // i32
  std::map<std::string, Loaded> loaded_;
};

}  // namespace nereid::program
