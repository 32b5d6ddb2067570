// Goal: which weights of a model are quantised and how, in one form for whatever wrote the
// checkpoint, or for what is asked of this run.
// Non-goal: bytes (program/quantized_weights.h) and arithmetic (the kernels).
// Rejected: a format a method. GPTQ, AWQ and compressed-tensors differ in where their integers lie
// in a file; once loaded they are one thing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "model/name_pattern.h"
#include "model/stored_name.h"
#include "tensor/dtype.h"

namespace nereid::model {

// A weight [N, K] as kernels read it: w = (q - zero) * scale, scale and zero [N, G] for as many
// groups of columns.
struct WeightFormat {
  DType dtype = DType::i8;    // i8, fp8e4nv, fp8e5; u8: 4 bits, two columns a byte
  std::int64_t n_groups = 1;  // divides K
  DType scale = DType::fp32;
  bool has_zero = false;  // u8 [N, G]; else it is 0, and 8 of 4 bits

  bool is_4_bits() const { return dtype == DType::u8; }
  // Elements of a row of K columns.
  std::int64_t n_columns(std::int64_t n_in) const;
  bool operator==(const WeightFormat&) const = default;
};

// Columns that may share a scale where we choose: the first that divides a row.
inline constexpr std::array<std::int64_t, 3> kGroups{128, 64, 32};

// Columns that lie in one block of a row of 4 bits: the first half in the low bits of its bytes.
inline constexpr std::int64_t kPackedBlock = 128;

// How a checkpoint stores what is quantised.
enum class WeightPacking : std::uint8_t {
  floats,      // not at all: it is quantised when loaded
  rows,        // NAME.weight, .weight_scale: as kernels read it; a scale a row, or one for all
  blocks,      // NAME.weight, .weight_scale_inv: a scale for each block of rows and columns
  compressed,  // NAME.weight_packed, .weight_scale, .weight_zero_point: compressed-tensors
  gptq,        // NAME.qweight, .scales, .qzeros, .g_idx
  awq,         // NAME.qweight, .scales, .qzeros
};

struct Quantization {
  // Chosen for a run: "int8", "int4" or "fp8"; an Error lists these.
  static Quantization when_loaded(std::string_view name, DType weights);
  // Of config.json's quantization_config; `where` is what messages call it. `weights`: of what is
  // not quantised.
  static Quantization parse(const Json& config, const std::string& where, DType weights);

  // The tensors that a weight is made of, by the end of their names; empty: there is none.
  std::string_view q_tensor() const;
  std::string_view scale_tensor() const;
  std::string_view zero_tensor() const;
  // Whether weights are e4m3 with a scale a row, which rows of e4m3 are multiplied by.
  bool is_fp8_by_rows() const { return dtype == DType::fp8e4nv && group == 0 && block_rows == 0; }
  // Whether scales are of the type that the checkpoint has them in; else they are fp32.
  bool keeps_scales() const { return dtype == DType::u8; }

  // Nothing where the weight of that module ("model.layers.0.mlp.up_proj"), of so many columns, is
  // as it ever was. An Error where the format does not fit it.
  std::optional<WeightFormat> format_of(std::string_view module, std::int64_t n_in) const;
  // Of some of its columns: a rank's. Groups are those of the whole where they end with the part.
  std::optional<WeightFormat> format_of_columns(std::string_view module,
                                                const StoredRange& columns) const;

  std::string name = {};  // for people: "int4", "gptq"
  WeightPacking packing = WeightPacking::floats;
  DType dtype = DType::i8;
  DType scale = DType::fp32;
  std::int64_t group = 0;  // columns that share a scale; 0: a row's
  bool has_zero = false;
  std::int64_t block_rows = 0;  // blocks
  bool has_order = false;       // gptq: columns were quantised in another order (desc_act)
  std::int64_t zero_add = 0;    // gptq: stored zeros are so much less

  std::vector<NamePattern> ignored = {};  // modules that are not quantised

  // Whether the checkpoint was made for activations of 8-bit floats.
  bool has_fp8_activations = false;
  // Whether the checkpoint has the scales of a cache of 8 bits (cache_scales.h).
  bool has_cache_scales = false;
  // It asks for a cache that is none of ours: the message, for who wants one of 8 bits.
  std::string cache_refusal = {};
};

}  // namespace nereid::model
