#include "engine/weights.h"

#include "base/error.h"
#include "graph/memory_plan.h"
#include "model/architecture.h"
#include "model/rope.h"

namespace nereid::engine {

namespace {

// What kernels were promised about every address.
constexpr std::uintptr_t kAlignmentBytes = 16;
// The spread of weights that training starts from; keeps activations finite through any number of
// layers.
constexpr double kMatrixStd = 0.02;
constexpr double kVectorStd = 1.0;

bool is_aligned(std::span<const std::byte> bytes) {
  return reinterpret_cast<std::uintptr_t>(bytes.data()) % kAlignmentBytes == 0;
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

}  // namespace

device::Address Weights::own(std::size_t size_bytes, const std::string& name) {
  buffers_.push_back(device_.allocate(size_bytes, "weight " + name));
  return addresses_[name] = buffers_.back().address();
}

void Weights::load_inv_freq(const model::ModelConfig& config) {
  const auto table = model::rope_inv_freq(config.rope, config.head_dim);
  const auto bytes = std::as_bytes(std::span(table));
  device_.upload(own(bytes.size(), model::names::kInvFreq), bytes);
  device_.synchronize();
}

void Weights::load(const graph::Graph& graph, const model::ModelConfig& config,
                   std::shared_ptr<const model::Checkpoint> checkpoint) {
  checkpoint_ = std::move(checkpoint);
  for (const auto& value : graph.values) {
    if (value.kind != graph::ValueKind::weight || value.name == model::names::kInvFreq) continue;
    const auto& tensor = checkpoint_->get(value.name);
    if (const auto wanted = constant_shape(value); tensor.shape != wanted)
      throw Error("{}: expected shape {} from config.json, got {}", value.name, shape_text(wanted),
                  shape_text(tensor.shape));
    NEREID_CHECK(tensor.dtype == value.dtype, "{} is planned as {}", value.name,
                 dtype_name(value.dtype));
    bytes_ += static_cast<std::int64_t>(tensor.bytes.size());
    if (device_.reads_host_memory() && is_aligned(tensor.bytes)) {
      addresses_[value.name] = reinterpret_cast<device::Address>(tensor.bytes.data());
      continue;
    }
    device_.upload(own(tensor.bytes.size(), value.name), tensor.bytes);
    checkpoint_->release(tensor);
  }
  load_inv_freq(config);
}

void Weights::randomise(const graph::Graph& graph, const model::ModelConfig& config,
                        const Fill& fill) {
  std::uint64_t seed = 0;
  for (const auto& value : graph.values) {
    if (value.kind != graph::ValueKind::weight || value.name == model::names::kInvFreq) continue;
    const auto shape = constant_shape(value);
    const auto n = n_elements(shape);
    const auto size_bytes = static_cast<std::size_t>(n) * dtype_size_bytes(value.dtype);
    bytes_ += static_cast<std::int64_t>(size_bytes);
    fill(own(size_bytes, value.name), value.dtype, n, ++seed,
         shape.size() > 1 ? kMatrixStd : kVectorStd);
  }
  load_inv_freq(config);
}

device::Address Weights::address(const std::string& name) const {
  const auto it = addresses_.find(name);
  NEREID_CHECK(it != addresses_.end(), "weight {} was not loaded", name);
  return it->second;
}

}  // namespace nereid::engine
