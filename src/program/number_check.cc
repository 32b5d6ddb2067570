#include "program/number_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "program/memory.h"

namespace nereid::program {

namespace {

// All bits of the exponent: a NaN or an infinity has them, and nothing else.
template <typename Bits>
std::size_t count_all_ones(std::span<const std::byte> elements, Bits exponent) {
  std::size_t n = 0;
  for (std::size_t at = 0; at + sizeof(Bits) <= elements.size(); at += sizeof(Bits)) {
    Bits bits{};
    std::memcpy(&bits, elements.data() + at, sizeof bits);
    if ((bits & exponent) == exponent) ++n;
  }
  return n;
}

constexpr std::string_view kLayerPrefix = "model.layers.";

// "3" of "model.layers.3.mlp.up_proj.weight", wherever in the name it stands; else empty.
std::string layer_of(std::string_view name) {
  const auto at = name.find(kLayerPrefix);
  if (at == std::string_view::npos) return {};
  const auto number = name.substr(at + kLayerPrefix.size());
  return std::string(number.substr(0, number.find('.')));
}

}  // namespace

std::size_t count_not_finite(std::span<const std::byte> elements, DType dtype) {
  switch (dtype) {
    case DType::fp16:
      return count_all_ones<std::uint16_t>(elements, 0x7C00);
    case DType::bf16:
      return count_all_ones<std::uint16_t>(elements, 0x7F80);
    case DType::fp32:
      return count_all_ones<std::uint32_t>(elements, 0x7F800000);
    default:
      return 0;
  }
}

NumberCheck::NumberCheck(device::Device& device, const graph::Graph& graph,
                         const graph::Sizes& sizes, std::span<const device::Address> addresses)
    : device_(device), graph_(graph), sizes_(sizes), addresses_(addresses) {}

// Neither scratch, which nobody reads and nobody fills to its end, nor a state, which is only
// partly this step's.
bool NumberCheck::is_result(graph::ValueId id) const {
  if (graph_.value(storage_of(graph_, id)).kind != graph::ValueKind::intermediate) return false;
  return std::ranges::count(graph_.outputs, id) > 0 ||
         std::ranges::any_of(graph_.nodes, [&](const graph::Node& node) {
           return std::ranges::count(node.inputs, id) > 0;
         });
}

std::size_t NumberCheck::count(graph::ValueId id, std::size_t begin_bytes) const {
  const auto& value = graph_.value(id);
  std::vector<std::byte> bytes(graph::value_bytes(value, sizes_) - begin_bytes);
  device_.download(bytes, addresses_[static_cast<std::size_t>(id)] + begin_bytes);
  return count_not_finite(bytes, value.dtype);
}

// What comes before the rows of prompts, where the node computes only those: the rows of sequences
// that decode hold nothing yet.
std::size_t NumberCheck::begin_bytes(const graph::Node& node, graph::ValueId id) const {
  if (node.row().find_attr("rows") == nullptr || node.text_attr("rows") != "prompt") return 0;
  const auto& value = graph_.value(id);
  return graph::value_bytes(value, sizes_) / static_cast<std::size_t>(sizes_.n_tokens) *
         static_cast<std::size_t>(sizes_.n_decodes);
}

std::string NumberCheck::odd_results(std::size_t index) const {
  const auto& node = graph_.nodes[index];
  for (const auto id : node.outputs) {
    if (!is_result(id)) continue;
    const auto begin = begin_bytes(node, id);
    const std::size_t n_odd = count(id, begin);
    if (n_odd == 0) continue;
    const auto& value = graph_.value(id);
    const auto n = (graph::value_bytes(value, sizes_) - begin) / dtype_size_bytes(value.dtype);
    std::string layer, weights, odd_weights;
    for (const auto input : node.reads()) {
      const auto& operand = graph_.value(input);
      if (layer.empty()) layer = layer_of(operand.name);
      if (operand.kind != graph::ValueKind::weight) continue;
      weights += (weights.empty() ? " of " : ", ") + operand.name;
      if (const auto n_in_weight = count(input); n_in_weight > 0)
        odd_weights += fmt::format("; {} of {}'s are not finite", n_in_weight, operand.name);
    }
    // An operation without weights belongs to the layer of the last one that has some.
    for (std::size_t before = index; weights.empty() && layer.empty() && before-- > 0;)
      for (const auto input : graph_.nodes[before].reads())
        if (layer.empty()) layer = layer_of(graph_.value(input).name);
    return fmt::format("{}{} %{} {}{}: {} of {} numbers{}",
                       layer.empty() ? "" : "layer " + layer + ", ", node.row().name, value.name,
                       graph::dims_text(value.shape), weights, n_odd, n, odd_weights);
  }
  return {};
}

}  // namespace nereid::program
