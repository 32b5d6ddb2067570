#include "program/quantized_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "model/stored_name.h"
#include "tensor/widen.h"

namespace nereid::program {

namespace {

using model::WeightPacking;

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

// What the numbers of a weight are multiplied by.
graph::ValueId reader_x(const graph::Graph& graph, const graph::Node& numbers) {
  for (const auto& node : graph.nodes)
    if (node.op == graph::Op::linear && node.operand("weight") == numbers.result("out"))
      return node.operand("x");
  NEREID_UNREACHABLE("no linear reads %{}", graph.value(numbers.result("out")).name);
}

// How many the checkpoint has, and the first that the weight has, of columns and their groups.
struct StoredColumns {
  std::int64_t n_columns = 0, first_column = 0, n_groups = 0, first_group = 0;
};

StoredColumns stored_columns(const QuantizedWeight& weight,
                             const model::Quantization& quantization) {
  const auto part = model::stored_name(weight.name).columns;
  if (!part) return {.n_columns = weight.n_in, .n_groups = weight.format.n_groups};
  const auto format = quantization.format_of(weight.module(), part->n_stored);
  NEREID_CHECK(format, "{} is not quantised", weight.name);
  return {part->n_stored, part->begin, format->n_groups,
          part->begin / (part->n_stored / format->n_groups)};
}

// What takes the words of a packed weight apart: its numbers, and its zeros where it has some.
std::vector<UnpackProblem> unpack_problems(const QuantizedWeight& weight,
                                           const model::Quantization& quantization) {
  const auto columns = stored_columns(weight, quantization);
  std::vector<UnpackProblem> problems{{.packing = quantization.packing,
                                       .q = weight.format.dtype,
                                       .has_order = weight.has_order,
                                       .n_in = weight.n_in,
                                       .n_stored = weight.n_stored(),
                                       .n_stored_in = columns.n_columns}};
  if (weight.format.has_zero)
    problems.push_back({.packing = quantization.packing,
                        .is_of_zeros = true,
                        .n_in = weight.format.n_groups,
                        .n_stored = weight.n_stored(),
                        .n_stored_in = columns.n_groups,
                        .zero_add = quantization.zero_add});
  return problems;
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
    const bool is_linear = node.op == graph::Op::linear && node.has("scale");
    if (!is_linear && node.op != graph::Op::dequantise) continue;
    // Of the product that it is for.
    const auto x = is_linear ? node.operand("x") : reader_x(graph, node);
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
                         .n_in = constant(graph.value(x).shape[1]),
                         .has_order = std::ranges::any_of(graph.nodes, [&](const auto& other) {
                           return other.op == graph::Op::take_columns && other.outputs[0] == x;
                         })});
    }
  }
  return weights;
}

bool is_stored_as_read(const model::Quantization& quantization) {
  return quantization.packing == WeightPacking::rows ||
         quantization.packing == WeightPacking::blocks;
}

HostTensor QuantizedLoader::tensor(const model::Checkpoint& checkpoint, const std::string& name,
                                   DType dtype, const Shape& shape) {
  const auto tensor = checkpoint.get_of_any_type(name, columns_);
  if (tensor.dtype != dtype || tensor.shape != shape)
    throw Error("{}: expected {} {} as config.json says ({}), got {} {}", name,
                dtype_row(dtype).safetensors, shape_text(shape), quantization_.name,
                dtype_row(tensor.dtype).safetensors, shape_text(tensor.shape));
  return tensor;
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
  const auto source = checkpoint.get(weight.name, columns_);
  if (const Shape wanted{weight.n_out, weight.n_in}; source.shape != wanted)
    throw Error("{}: expected shape {} from config.json, got {}", weight.name, shape_text(wanted),
                shape_text(source.shape));
  quantize(weight, source.dtype, [&](std::size_t begin_bytes, std::size_t n_bytes) {
    return staging_.address_of(source.bytes.subspan(begin_bytes, n_bytes));
  });
  kernels_().refuse_bad(weight.name);
  checkpoint.release(source);
}

void QuantizedLoader::load_rows(const QuantizedWeight& weight,
                                const model::Checkpoint& checkpoint) {
  load_scales(weight, checkpoint);
  if (weight.q == 0) return;
  const auto q = tensor(checkpoint, weight.name, weight.format.dtype, {weight.n_out, weight.n_in});
  device_.upload(weight.q, q.bytes);
  checkpoint.release(q);
}

std::vector<std::size_t> QuantizedLoader::scale_places(const QuantizedWeight& weight,
                                                       const HostTensor& scale,
                                                       const std::string& name) const {
  const auto n_scales = n_elements(scale.shape);
  const auto columns = stored_columns(weight, quantization_);
  const auto n_groups = columns.n_groups;
  const auto n_stored = weight.n_stored();
  const bool is_of_groups_first =
      quantization_.packing == WeightPacking::gptq || quantization_.packing == WeightPacking::awq;
  const auto n_block_rows =
      quantization_.packing == WeightPacking::blocks ? quantization_.block_rows : 1;
  const auto n_row_blocks = (n_stored + n_block_rows - 1) / n_block_rows;
  const bool is_one_for_all =
      quantization_.packing == WeightPacking::rows && n_scales == 1 && n_groups == 1;
  if (n_scales != n_row_blocks * n_groups && !is_one_for_all)
    throw Error(
        "{}: expected {} scales for each of {} groups of columns, as config.json says, got "
        "shape {}",
        name, n_row_blocks, n_groups, shape_text(scale.shape));
  std::vector<std::size_t> places;
  places.reserve(static_cast<std::size_t>(weight.n_out * weight.format.n_groups));
  const auto end_group = columns.first_group + weight.format.n_groups;
  for (std::int64_t row = 0; row < weight.n_out; ++row)
    for (auto group = columns.first_group; group < end_group; ++group) {
      const auto block = (weight.first_row() + row) / n_block_rows;
      const auto place = is_of_groups_first ? group * n_stored + block : block * n_groups + group;
      places.push_back(static_cast<std::size_t>(is_one_for_all ? 0 : place));
    }
  return places;
}

// A scale for each row and group: as they are stored, or in fp32.
void QuantizedLoader::load_scales(const QuantizedWeight& weight,
                                  const model::Checkpoint& checkpoint) {
  const auto name = fmt::format("{}.{}", weight.module(), quantization_.scale_tensor());
  const auto scale = checkpoint.get(name);
  const auto values = widened(scale);
  check_scales(values, name);
  const auto places = scale_places(weight, scale, name);
  if (weight.format.scale == scale.dtype) {
    const auto element_bytes = dtype_size_bytes(scale.dtype);
    std::vector<std::byte> taken;
    taken.reserve(places.size() * element_bytes);
    for (const auto place : places) {
      const auto element = scale.bytes.subspan(place * element_bytes, element_bytes);
      taken.insert(taken.end(), element.begin(), element.end());
    }
    device_.upload(weight.scale, taken);
    return;
  }
  NEREID_CHECK(weight.format.scale == DType::fp32, "scales of {} are planned as {}", weight.name,
               dtype_name(weight.format.scale));
  std::vector<float> taken;
  taken.reserve(places.size());
  for (const auto place : places) taken.push_back(values[place]);
  device_.upload(weight.scale, std::as_bytes(std::span(taken)));
}

// Columns by their groups, each group's in their order.
void QuantizedLoader::load_order(const QuantizedWeight& weight,
                                 const model::Checkpoint& checkpoint) {
  const auto name = weight.module() + ".g_idx";
  const auto groups = tensor(checkpoint, name, DType::i32, {weight.n_in});
  std::vector<std::int32_t> group_of(static_cast<std::size_t>(weight.n_in));
  std::memcpy(group_of.data(), groups.bytes.data(), groups.bytes.size());
  std::vector<std::int32_t> order(group_of.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(
      order, {}, [&](std::int32_t column) { return group_of[static_cast<std::size_t>(column)]; });
  const auto n_each = weight.n_in / weight.format.n_groups;
  for (std::int64_t i = 0; i < weight.n_in; ++i) {
    const auto column = order[static_cast<std::size_t>(i)];
    if (group_of[static_cast<std::size_t>(column)] != i / n_each)
      throw Error("{}: expected {} columns of each of {} groups, got column {} in group {}", name,
                  n_each, weight.format.n_groups, column,
                  group_of[static_cast<std::size_t>(column)]);
  }
  device_.upload(weight.order, std::as_bytes(std::span(order)));
}

void QuantizedLoader::load_packed(const QuantizedWeight& weight,
                                  const model::Checkpoint& checkpoint) {
  load_scales(weight, checkpoint);
  if (weight.has_order) load_order(weight, checkpoint);
  const auto columns = stored_columns(weight, quantization_);
  for (const auto& problem : unpack_problems(weight, quantization_)) {
    const auto name =
        fmt::format("{}.{}", weight.module(),
                    problem.is_of_zeros ? quantization_.zero_tensor() : quantization_.q_tensor());
    const auto n_fields = problem.n_fields();
    const auto n_stored = weight.n_stored();
    const auto in_words = [&](std::int64_t n) { return (n + n_fields - 1) / n_fields; };
    const auto first = weight.first_row();
    const auto first_column = problem.is_of_zeros ? columns.first_group : columns.first_column;
    if (problem.is_along_rows() && (n_stored % n_fields != 0 || first % n_fields != 0))
      throw Error("{}: {} rows from {} of {}: expected multiples of {}, which share a word", name,
                  weight.n_out, first, n_stored, n_fields);
    if (!problem.is_along_rows() && first_column % n_fields != 0)
      throw Error("{}: columns from {}: expected a multiple of {}, which share a word", name,
                  first_column, n_fields);
    Shape shape{n_stored, problem.n_stored_in};
    auto& packed = shape[problem.is_along_rows() ? 0 : 1];
    packed = in_words(packed);
    if (quantization_.packing != WeightPacking::compressed) std::swap(shape[0], shape[1]);
    const auto words = tensor(checkpoint, name, DType::i32, shape);
    // Where rows lie behind one another, some at a time, those of this weight alone.
    const auto row_bytes = static_cast<std::size_t>(problem.row_stride()) * sizeof(std::int32_t);
    const auto n_each =
        problem.has_whole_rows() ? static_cast<std::int64_t>(staged_rows(row_bytes)) : weight.n_out;
    const auto column_bytes =
        static_cast<std::size_t>(
            (problem.is_along_rows() ? first_column : first_column / n_fields) *
            problem.column_stride()) *
        sizeof(std::int32_t);
    const auto order = problem.is_of_zeros ? 0 : weight.order;
    const auto target = problem.is_of_zeros ? weight.zero : weight.q;
    for (std::int64_t row = 0; row < weight.n_out; row += n_each) {
      const auto n_rows = std::min(n_each, weight.n_out - row);
      const auto first_place = problem.is_along_rows() ? first / n_fields : first + row;
      const auto begin = static_cast<std::size_t>(first_place) * row_bytes;
      const auto address = problem.has_whole_rows()
                               ? staging_.address_of(words.bytes.subspan(
                                     begin, static_cast<std::size_t>(n_rows) * row_bytes))
                               : staging_.address_of(words.bytes) + begin;
      kernels_().unpack(problem, address + column_bytes, order, n_rows,
                        target + static_cast<device::Address>(row * problem.q_row_bytes()));
      device_.synchronize();  // staging and file may change after
    }
    checkpoint.release(words);
  }
}

std::int64_t QuantizedWeight::n_stored() const {
  const auto stored = model::stored_name(name);
  return stored.rows ? stored.rows->n_stored : n_out;
}

std::int64_t QuantizedWeight::first_row() const {
  const auto stored = model::stored_name(name);
  return stored.rows ? stored.rows->begin : 0;
}

std::string QuantizedWeight::module() const {
  auto tensor = model::stored_name(name).tensor;
  constexpr std::string_view kEnd = ".weight";
  NEREID_CHECK(tensor.ends_with(kEnd), "a quantised weight is called {}", name);
  tensor.remove_suffix(kEnd.size());
  return std::string(tensor);
}

std::vector<kernel::KernelRequest> weight_requests(const QuantizedWeight& weight,
                                                   const model::Quantization& quantization,
                                                   DType floats, const std::string& target,
                                                   const KernelTables& tables) {
  std::vector<kernel::KernelRequest> requests;
  // Also of random numbers, whatever a checkpoint would have.
  requests.push_back(QuantizeProblem{floats, weight.format, weight.n_in}.request(target, tables));
  if (quantization.packing < WeightPacking::compressed) return requests;
  for (const auto& problem : unpack_problems(weight, quantization))
    requests.push_back(problem.request(target, tables));
  return requests;
}

void QuantizedLoader::randomise(const QuantizedWeight& weight, RandomFill& fill, DType dtype,
                                std::int64_t seed, double standard_deviation) {
  const auto element_bytes = dtype_size_bytes(dtype);
  quantize(weight, dtype, [&](std::size_t begin_bytes, std::size_t n_bytes) {
    const auto target = staging_.reserve(n_bytes);
    const auto begin = static_cast<std::int64_t>(begin_bytes / element_bytes);
    fill(target, dtype, static_cast<std::int64_t>(n_bytes / element_bytes), seed + begin,
         standard_deviation);
    return target;
  });
  if (!weight.format.has_zero) return;
  constexpr std::byte kMiddle{8};
  device_.upload(
      weight.zero,
      std::vector(static_cast<std::size_t>(weight.n_out * weight.format.n_groups), kMiddle));
}

void QuantizedLoader::quantize(const QuantizedWeight& weight, DType dtype, const RowSource& rows) {
  const QuantizeProblem problem{dtype, weight.format, weight.n_in};
  const auto row_bytes = static_cast<std::size_t>(weight.n_in) * dtype_size_bytes(dtype);
  const auto q_row_bytes = static_cast<std::size_t>(weight.format.n_columns(weight.n_in));
  const auto scale_row_bytes =
      static_cast<std::size_t>(weight.format.n_groups) * dtype_size_bytes(weight.format.scale);
  const auto n_all = static_cast<std::size_t>(weight.n_out);
  const auto n_each = staged_rows(row_bytes);
  for (std::size_t row = 0; row < n_all; row += n_each) {
    const auto n_rows = std::min(n_each, n_all - row);
    const auto source = rows(row * row_bytes, n_rows * row_bytes);
    kernels_().quantize(problem, source, static_cast<std::int64_t>(n_rows),
                        weight.q + row * q_row_bytes, weight.scale + row * scale_row_bytes);
  }
}

}  // namespace nereid::program
