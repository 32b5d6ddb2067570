#include "program/weights.h"

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "model/architecture.h"
#include "model/rope.h"
#include "model/stored_name.h"
#include "tensor/widen.h"

namespace nereid::program {

namespace {

// What kernels were promised about every address.
constexpr std::uintptr_t kAlignmentBytes = 16;
// Of a weight in the memory that all share: more than any kernel or tensor map asks for.
constexpr std::size_t kPoolAlignmentBytes = 256;
// So few weights are copied even where they could be read in the file: a copy lies in large pages,
// which are read a sixth faster, and its memory hardly counts.
constexpr std::size_t kCopiedBytes = std::size_t{256} << 20;
// The spread of weights that training starts from; keeps activations finite through any number of
// layers.
constexpr double kMatrixStd = 0.02;
constexpr double kVectorStd = 1.0;

bool is_aligned(std::span<const std::byte> bytes) {
  return reinterpret_cast<std::uintptr_t>(bytes.data()) % kAlignmentBytes == 0;
}

model::StoredPart part_of(const graph::Value& value) { return model::stored_name(value.name).part; }

bool is_one_plus(const graph::Value& value) {
  return part_of(value) == model::StoredPart::one_plus;
}

Shape constant_shape(const graph::Value& value) {
  Shape shape;
  for (const auto& dim : value.shape) {
    NEREID_CHECK(dim.is_constant(), "weight {} has a dimension {}", value.name,
                 graph::dim_text(dim));
    shape.push_back(dim.offset);
  }
  return shape;
}

std::size_t size_bytes(const graph::Value& value) {
  return static_cast<std::size_t>(n_elements(constant_shape(value))) *
         dtype_size_bytes(value.dtype);
}

// 2^(-8 (h + 1) / H), of a rank's heads.
std::vector<float> alibi_slopes(std::int64_t n_heads, const model::Shard& shard) {
  constexpr double kLast = -8.0;
  std::vector<float> slopes;
  const auto first = shard.first(n_heads);
  for (auto head = first + 1; head <= first + shard.share(n_heads); ++head)
    slopes.push_back(static_cast<float>(
        std::exp2(kLast * static_cast<double>(head) / static_cast<double>(n_heads))));
  return slopes;
}

}  // namespace

std::vector<PackedPart> packed_parts(const graph::Graph& graph) {
  std::vector<PackedPart> parts;
  for (const auto& node : graph.nodes) {
    if (node.row().op_class != graph::OpClass::layout) continue;
    std::size_t offset = 0;
    for (const auto id : node.reads()) {
      parts.push_back({id, node.outputs[0], offset});
      offset += size_bytes(graph.value(id));
    }
  }
  return parts;
}

void Weights::load_computed(const model::ModelConfig& config) {
  const auto add = [&](const char* name, const std::vector<float>& table) {
    const auto bytes = std::as_bytes(std::span(table));
    buffers_.push_back(device_.allocate(bytes.size(), name));
    addresses_[name] = buffers_.back().address();
    device_.upload(buffers_.back().address(), bytes);
    device_.synchronize();
  };
  const auto frequencies = [&](const model::RopeConfig& rope) {
    return model::rope_inv_freq(rope, config.head_dim);
  };
  add(model::names::kInvFreq, frequencies(config.rope));
  if (config.window_rope) add(model::names::kWindowInvFreq, frequencies(*config.window_rope));
  if (config.has_alibi) add(model::names::kAlibiSlopes, alibi_slopes(config.n_heads, shard_));
}

std::vector<Weights::Part> Weights::lay_out(const graph::Graph& graph) {
  std::set<graph::ValueId> done;  // parts of packed weights, and these themselves
  std::vector<Part> parts;        // their targets are offsets until the memory is there
  std::vector<std::pair<const std::string*, std::size_t>> owned;
  std::size_t pool_bytes = 0;
  const auto own = [&](std::size_t bytes, const std::string& name) {
    const auto offset = pool_bytes;
    pool_bytes += (bytes + kPoolAlignmentBytes - 1) / kPoolAlignmentBytes * kPoolAlignmentBytes;
    owned.emplace_back(&name, offset);
    return static_cast<device::Address>(offset);
  };
  device::Address packed = 0;
  for (const auto& part : packed_parts(graph)) {
    const auto& whole = graph.value(part.packed);
    if (part.offset == 0) packed = own(size_bytes(whole), whole.name);
    parts.push_back({&graph.value(part.part), packed + part.offset});
    done.insert({part.part, part.packed});
  }
  for (const auto& node : graph.nodes) {
    if (node.row().op_class == graph::OpClass::layout) continue;
    for (const auto id : node.reads()) {
      const auto& value = graph.value(id);
      if (value.kind != graph::ValueKind::weight || model::names::is_computed(value.name) ||
          !done.insert(id).second)
        continue;
      if (const auto address = mapped_address(value)) {
        addresses_[value.name] = *address;
        mapped_bytes_ += static_cast<std::int64_t>(size_bytes(value));
      } else {
        parts.push_back({&value, own(size_bytes(value), value.name)});
      }
    }
  }
  buffers_.push_back(device_.allocate(pool_bytes, "weights"));
  device_.prefer_large_pages(buffers_.back());
  bytes_ = mapped_bytes_;
  const auto pool = buffers_.back().address();
  for (const auto& [name, offset] : owned) addresses_[*name] = pool + offset;
  for (auto& part : parts) {
    part.target += pool;
    bytes_ += static_cast<std::int64_t>(size_bytes(*part.value));
  }
  return parts;
}

// What belongs to a quantised weight is set once all of it has its place.
void Weights::place_quantized(std::vector<Part>& parts) {
  std::map<std::string, QuantizedWeight*> by_name;
  for (auto& weight : quantized_) by_name[weight.name] = &weight;
  const auto is_placed = [&](const Part& part) {
    const auto stored = part_of(*part.value);
    const auto dot = part.value->name.find('.');
    const bool is_value = stored == model::StoredPart::value;
    const auto found = by_name.find(is_value ? part.value->name : part.value->name.substr(dot + 1));
    if (found == by_name.end() || stored == model::StoredPart::one_plus) return false;
    auto& weight = *found->second;
    switch (stored) {
      case model::StoredPart::scale:
        weight.scale = part.target;
        break;
      case model::StoredPart::zero:
        weight.zero = part.target;
        break;
      case model::StoredPart::order:
        weight.order = part.target;
        break;
      default:
        weight.q = part.target;
    }
    return true;
  };
  std::erase_if(parts, is_placed);
}

HostTensor Weights::tensor_of(const graph::Value& value, std::vector<std::byte>& storage) const {
  const auto tensor = is_quantised(value.dtype) ? checkpoint_->get_of_any_type(value.name, storage)
                                                : checkpoint_->get(value.name, storage);
  if (const auto wanted = constant_shape(value); tensor.shape != wanted)
    throw Error("{}: expected shape {} from config.json, got {}", value.name, shape_text(wanted),
                shape_text(tensor.shape));
  const auto wanted_dtype = is_one_plus(value) ? tensor.dtype : value.dtype;
  if (tensor.dtype != wanted_dtype)
    throw Error("{}: expected the type {}, got {}; config.json is another checkpoint's", value.name,
                dtype_row(wanted_dtype).safetensors, dtype_row(tensor.dtype).safetensors);
  return tensor;
}

// As it is stored, or one more in fp32.
void Weights::upload(const Part& part) {
  std::vector<std::byte> columns;
  const auto tensor = tensor_of(*part.value, columns);
  if (is_one_plus(*part.value)) {
    auto factors = widened(tensor);
    for (auto& factor : factors) factor += 1.0F;
    device_.upload(part.target, std::as_bytes(std::span(factors)));
  } else {
    device_.upload(part.target, tensor.bytes);
  }
  checkpoint_->release(tensor);
}

std::optional<device::Address> Weights::mapped_address(const graph::Value& value) const {
  if (!may_use_mapped_ || part_of(value) != model::StoredPart::value) return std::nullopt;
  if (is_quantised(value.dtype) && !is_stored_as_read(*quantization_)) return std::nullopt;
  if (model::stored_name(value.name).columns) return std::nullopt;
  std::vector<std::byte> none;
  const auto tensor = tensor_of(value, none);
  if (!is_aligned(tensor.bytes)) return std::nullopt;
  return reinterpret_cast<device::Address>(tensor.bytes.data());
}

void Weights::load(const graph::Graph& graph, const model::ModelConfig& config,
                   const std::optional<model::Quantization>& quantization,
                   std::shared_ptr<const model::Checkpoint> checkpoint, const KernelsOf& kernels,
                   const ProgressSink& progress) {
  checkpoint_ = std::move(checkpoint);
  quantization_ = quantization ? &*quantization : nullptr;
  quantized_ = quantized_weights(graph);
  std::size_t all_bytes = 0;
  for (const auto& value : graph.values)
    if (value.kind == graph::ValueKind::weight && !model::names::is_computed(value.name))
      all_bytes += size_bytes(value);
  may_use_mapped_ = all_bytes > kCopiedBytes && device_.reads_host_memory();
  auto parts = lay_out(graph);
  place_quantized(parts);
  const auto n_all = std::ssize(parts) + std::ssize(quantized_);
  std::int64_t n_done = 0;
  const auto note = [&] {
    if (progress) progress("reading weights", ++n_done, n_all);
  };
  for (const auto& part : parts) {
    upload(part);
    note();
  }
  if (quantization) {
    QuantizedLoader loader(device_, *quantization, kernels);
    for (const auto& weight : quantized_) {
      loader.load(weight, *checkpoint_);
      note();
    }
    device_.synchronize();  // the loader's memory is read until then
  }
  load_computed(config);
}

void Weights::randomise(const graph::Graph& graph, const model::ModelConfig& config,
                        const std::optional<model::Quantization>& quantization,
                        const KernelsOf& kernels, RandomFill& fill) {
  // By name: the same weights whatever the graph makes of them.
  const auto seed_of = [](const std::string& name) {
    return std::stoll(sha256_hex(name).substr(0, 15), nullptr, 16);
  };
  quantized_ = quantized_weights(graph);
  auto parts = lay_out(graph);
  place_quantized(parts);
  for (const auto& part : parts) {
    const auto shape = constant_shape(*part.value);
    fill(part.target, part.value->dtype, n_elements(shape), seed_of(part.value->name),
         shape.size() > 1 ? kMatrixStd : kVectorStd);
  }
  if (quantization) {
    QuantizedLoader loader(device_, *quantization, kernels);
    for (const auto& weight : quantized_)
      loader.randomise(weight, fill, config.dtype, seed_of(weight.name), kMatrixStd);
    device_.synchronize();
  }
  load_computed(config);
}

std::int64_t Weights::memory_bytes() const {
  auto n_bytes = mapped_bytes_;
  for (const auto& buffer : buffers_) n_bytes += static_cast<std::int64_t>(buffer.size_bytes());
  return n_bytes;
}

device::Address Weights::address(const std::string& name) const {
  const auto it = addresses_.find(name);
  NEREID_CHECK(it != addresses_.end(), "weight {} was not loaded", name);
  return it->second;
}

}  // namespace nereid::program
