#include "program/quantized_weights.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"
#include "model/stored_name.h"
#include "tensor/widen.h"

namespace nereid::program {

namespace {

using model::StoredPart;
using model::WeightPacking;

// Of floats on the device before they are quantised: little beside the weights, and many rows.
constexpr std::size_t kStagingBytes = std::size_t{64} << 20;
// Every copy to the staging memory begins where kernels were promised that addresses do.
constexpr std::size_t kAlignmentBytes = 16;

std::int64_t constant(const graph::Dim& dim) {
  NEREID_CHECK(dim.is_constant(), "a weight has a dimension {}", dim_text(dim));
  return dim.offset;
}

// The values that `id` is made of, or itself.
std::vector<graph::ValueId> parts_of(const std::map<graph::ValueId, const graph::Node*>& packs,
                                     graph::ValueId id) {
  const auto pack = packs.find(id);
  return pack == packs.end() ? std::vector{id} : pack->second->inputs;
}

void check_scales(const std::vector<float>& scales, const std::string& name) {
  const auto is_wrong = [](float scale) { return !std::isfinite(scale) || scale == 0.0F; };
  const auto wrong = std::ranges::find_if(scales, is_wrong);
  if (wrong != scales.end())
    throw Error("{}: scale {} of {} is {}: expected finite ones other than 0; the file is damaged",
                name, wrong - scales.begin(), scales.size(), *wrong);
}

}  // namespace

std::vector<QuantizedWeight> quantized_weights(const graph::Graph& graph) {
  std::map<graph::ValueId, const graph::Node*> packs;
  for (const auto& node : graph.nodes)
    if (node.op == graph::Op::pack) packs[node.outputs[0]] = &node;
  std::vector<QuantizedWeight> weights;
  std::set<std::string> done;
  for (const auto& node : graph.nodes) {
    if (node.op != graph::Op::linear || !node.has("scale")) continue;
    const auto scales = parts_of(packs, node.operand("scale"));
    const auto parts = parts_of(packs, node.operand("weight"));
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto& value = graph.value(parts[i]);
      const auto& scale = graph.value(scales[i]);
      if (!done.insert(value.name).second) continue;
      weights.push_back({.name = value.name,
                         .format = {.dtype = value.dtype,
                                    .n_groups = constant(scale.shape[1]),
                                    .scale = scale.dtype,
                                    .has_zero = node.has("zero")},
                         .n_out = constant(value.shape[0]),
                         .n_in = constant(graph.value(node.operand("x")).shape[1])});
    }
  }
  return weights;
}

bool is_stored_as_read(const model::Quantization& quantization) {
  return quantization.packing == WeightPacking::rows ||
         quantization.packing == WeightPacking::blocks;
}

HostTensor QuantizedLoader::tensor(const model::Checkpoint& checkpoint, const std::string& name,
                                   DType dtype, const Shape& shape) const {
  const auto tensor = checkpoint.get_of_any_type(name);
  if (tensor.dtype != dtype || tensor.shape != shape)
    throw Error("{}: expected {} {} as config.json says ({}), got {} {}", name,
                dtype_row(dtype).safetensors, shape_text(shape), quantization_.name,
                dtype_row(tensor.dtype).safetensors, shape_text(tensor.shape));
  return tensor;
}

device::Address QuantizedLoader::staged(std::span<const std::byte> bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  if (device_.reads_host_memory() && address % kAlignmentBytes == 0) return address;
  reserve_staging(bytes.size());
  device_.upload(staging_.address(), bytes);
  return staging_.address();
}

void QuantizedLoader::reserve_staging(std::size_t n_bytes) {
  if (staging_.size_bytes() >= n_bytes) return;
  device_.synchronize();  // what is replaced may still be read
  staging_ = {};
  staging_ = device_.allocate(n_bytes, "weights on their way");
}

void QuantizedLoader::load(const QuantizedWeight& weight, const model::Checkpoint& checkpoint) {
  switch (quantization_.packing) {
    case WeightPacking::floats:
      return load_floats(weight, checkpoint);
    case WeightPacking::rows:
    case WeightPacking::blocks:
      return load_rows(weight, checkpoint);
    case WeightPacking::compressed:
    case WeightPacking::gptq:
    case WeightPacking::awq:
      return load_packed(weight, checkpoint);
  }
}

void QuantizedLoader::load_floats(const QuantizedWeight& weight,
                                  const model::Checkpoint& checkpoint) {
  const auto source = checkpoint.get(weight.name);
  if (const Shape wanted{weight.n_out, weight.n_in}; source.shape != wanted)
    throw Error("{}: expected shape {} from config.json, got {}", weight.name, shape_text(wanted),
                shape_text(source.shape));
  quantize(weight, source.dtype, [&](std::size_t begin_bytes, std::size_t n_bytes) {
    return staged(source.bytes.subspan(begin_bytes, n_bytes));
  });
  if (const auto n_bad = kernels_().take_bad(); n_bad > 0)
    throw Error(
        "{}: NaN, infinite or too large numbers in {} of its groups of columns: expected "
        "weights to quantise; the file is damaged, or its type is not what it says",
        weight.name, n_bad);
  checkpoint.release(source);
}

void QuantizedLoader::load_rows(const QuantizedWeight& weight,
                                const model::Checkpoint& checkpoint) {
  if (weight.q != 0) {
    const auto q =
        tensor(checkpoint, weight.name, weight.format.dtype, {weight.n_out, weight.n_in});
    device_.upload(weight.q, q.bytes);
    checkpoint.release(q);
  }
  const bool is_of_blocks = quantization_.packing == WeightPacking::blocks;
  const auto stored = model::stored_name(weight.name);
  const auto n_stored = stored.rows ? stored.rows->n_stored : weight.n_out;
  const auto begin = stored.rows ? stored.rows->begin : 0;
  auto name = std::string(stored.tensor) + "_scale";
  if (is_of_blocks && checkpoint.contains(name + "_inv")) name += "_inv";
  const auto scale = checkpoint.get(name);
  const auto scales = widened(scale);
  check_scales(scales, name);
  const auto n_groups = weight.format.n_groups;
  // A scale for all, one a row, or one a block of rows, of one group or of several.
  const auto n_scales = static_cast<std::int64_t>(scales.size());
  const auto n_block_rows = is_of_blocks ? quantization_.block_rows : 1;
  const auto n_row_blocks = (n_stored + n_block_rows - 1) / n_block_rows;
  if (n_scales != n_row_blocks * n_groups && !(n_scales == 1 && n_groups == 1 && !is_of_blocks))
    throw Error("{}: expected {} scales of {} groups each, got shape {}", name, n_row_blocks,
                n_groups, shape_text(scale.shape));
  std::vector<float> of_rows(static_cast<std::size_t>(weight.n_out * n_groups));
  for (std::int64_t row = 0; row < weight.n_out; ++row)
    for (std::int64_t group = 0; group < n_groups; ++group) {
      const auto from = n_scales == 1 ? 0 : (begin + row) / n_block_rows * n_groups + group;
      of_rows[static_cast<std::size_t>(row * n_groups + group)] =
          scales[static_cast<std::size_t>(from)];
    }
  NEREID_CHECK(weight.format.scale == DType::fp32, "scales of {} are planned as {}", weight.name,
               dtype_name(weight.format.scale));
  device_.upload(weight.scale, std::as_bytes(std::span(of_rows)));
}

void QuantizedLoader::load_packed(const QuantizedWeight& weight,
                                  const model::Checkpoint& /*checkpoint*/) {
  throw Error(
      "{}: weights packed as {} does are not read yet; expected one of compressed-tensors' "
      "int-quantized or float-quantized, fp8, or floats beside --quantize",
      weight.name, quantization_.name);
}

void QuantizedLoader::randomise(const QuantizedWeight& weight, RandomFill& fill, DType dtype,
                                std::int64_t seed, double standard_deviation) {
  const auto element_bytes = dtype_size_bytes(dtype);
  quantize(weight, dtype, [&](std::size_t begin_bytes, std::size_t n_bytes) {
    reserve_staging(n_bytes);
    const auto begin = static_cast<std::int64_t>(begin_bytes / element_bytes);
    fill(staging_.address(), dtype, static_cast<std::int64_t>(n_bytes / element_bytes),
         seed + begin, standard_deviation);
    return staging_.address();
  });
  if (!weight.format.has_zero) return;
  constexpr std::byte kMiddle{8};
  device_.upload(
      weight.zero,
      std::vector(static_cast<std::size_t>(weight.n_out * weight.format.n_groups), kMiddle));
}

// Some rows at a time, as many as begin where kernels were promised that addresses do.
void QuantizedLoader::quantize(const QuantizedWeight& weight, DType dtype, const RowSource& rows) {
  const QuantizeProblem problem{dtype, weight.format, weight.n_in};
  const auto row_bytes = static_cast<std::size_t>(weight.n_in) * dtype_size_bytes(dtype);
  const auto q_row_bytes = static_cast<std::size_t>(weight.format.n_columns(weight.n_in));
  const auto scale_row_bytes =
      static_cast<std::size_t>(weight.format.n_groups) * dtype_size_bytes(weight.format.scale);
  const auto n_all = static_cast<std::size_t>(weight.n_out);
  const auto n_each =
      std::max(kAlignmentBytes, kStagingBytes / row_bytes / kAlignmentBytes * kAlignmentBytes);
  for (std::size_t row = 0; row < n_all; row += n_each) {
    const auto n_rows = std::min(n_each, n_all - row);
    const auto source = rows(row * row_bytes, n_rows * row_bytes);
    kernels_().quantize(problem, source, static_cast<std::int64_t>(n_rows),
                        weight.q + row * q_row_bytes, weight.scale + row * scale_row_bytes);
  }
}

}  // namespace nereid::program
