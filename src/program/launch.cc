#include "program/launch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace nereid::program {

namespace {

using device::ArgType;

// Round to nearest even, as the kernels' own conversions do.
std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

std::uint16_t to_fp16(double value) {
  return std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
}

bool is_integer(ArgType type) { return type >= ArgType::i8 && type <= ArgType::i64; }

bool fits(ArgType type, std::int64_t value) {
  const int n_bits = 8 * static_cast<int>(device::arg_type_row(type).size_bytes);
  return n_bits == 64 ||
         (value >= -(std::int64_t{1} << (n_bits - 1)) && value < std::int64_t{1} << (n_bits - 1));
}

}  // namespace

BoundLaunch::BoundLaunch(const kernel::Variant& variant, const device::Function* function)
    : variant_(&variant), function_(function), slots_(variant.args.size()) {
  args_.reserve(variant.args.size());
  for (const auto& arg : variant.args) {
    const auto it = variant.request.args.find(arg.name);
    const bool is_aligned = it != variant.request.args.end() && it->second.ends_with(":16");
    args_.push_back({arg.name, arg.type, is_aligned, false, {}});
  }
  for (auto& slot : slots_) params_.push_back(&slot);
  for (std::size_t i = 0; i < axes_.size(); ++i) axes_[i] = over_args(variant.grid[i]);
  encoded_maps_.resize(variant.tensor_maps.size());
  for (const auto& made : variant.tensor_maps) {
    MapArg& map = maps_.emplace_back();
    map.index = made.arg;
    map.matrix.element = made.element;
    map.matrix.rank = made.rank();
    map.matrix.swizzle_bytes = made.swizzle_bytes;
    for (std::size_t i = 0; i < made.rank(); ++i) {
      map.matrix.box[i] = made.box[i];
      map.shape.push_back(over_args(made.shape[i]));
      map.strides.push_back(over_args(made.strides[i]));
      for (const std::size_t behind : {1 + i, 1 + made.rank() + i})
        args_[made.arg + behind].is_set = true;
    }
    params_[made.arg] = &encoded_maps_[maps_.size() - 1];
  }
}

std::size_t BoundLaunch::index_of(std::string_view name) const {
  const auto it = std::ranges::find(args_, name, &Arg::name);
  NEREID_CHECK(it != args_.end(), "{} has no argument {}", variant_->symbol, name);
  return static_cast<std::size_t>(it - args_.begin());
}

BoundLaunch::ArgExpression BoundLaunch::over_args(const kernel::Expression& expression) const {
  ArgExpression made{expression, {}, {}};
  for (const auto& name : expression.symbols()) made.args.push_back(index_of(name));
  made.values.resize(made.args.size());
  return made;
}

bool BoundLaunch::is_dynamic(const ArgExpression& expression) const {
  bool is_dynamic = false;
  for (const auto index : expression.args) {
    const Arg& arg = args_[index];
    NEREID_CHECK(is_integer(arg.type), "{}: \"{}\" reads {}", variant_->symbol,
                 expression.expression.text(), arg.name);
    is_dynamic |= !arg.size.is_constant();
  }
  return is_dynamic;
}

std::int64_t BoundLaunch::evaluate(ArgExpression& expression, const graph::Sizes& sizes) const {
  for (std::size_t i = 0; i < expression.args.size(); ++i)
    expression.values[i] = graph::dim_value(args_[expression.args[i]].size, sizes);
  return expression.expression.evaluate(expression.values);
}

void BoundLaunch::set_pointer(std::string_view name, device::Address address) {
  const auto index = index_of(name);
  Arg& arg = args_[index];
  NEREID_CHECK(!is_finished_ && (arg.type == ArgType::pointer || arg.type == ArgType::tensor_map),
               "{}: {} is no pointer", variant_->symbol, name);
  NEREID_CHECK(!arg.is_aligned || address % 16 == 0,
               "{}: {} is {:#x}, compiled for multiples of 16", variant_->symbol, name, address);
  slots_[index] = address;
  arg.is_set = true;
  for (auto& map : maps_)
    if (map.index == index) map.matrix.address = address;
}

void BoundLaunch::set_int(std::string_view name, const graph::Dim& value) {
  const auto index = index_of(name);
  Arg& arg = args_[index];
  NEREID_CHECK(!is_finished_ && is_integer(arg.type), "{}: {} is no integer", variant_->symbol,
               name);
  arg.size = value;
  arg.is_set = true;
  if (value.is_constant())
    store_int(index, value.offset);
  else
    NEREID_CHECK(!arg.is_aligned || (value.factor % 16 == 0 && value.offset % 16 == 0),
                 "{}: {} is {}, compiled for multiples of 16", variant_->symbol, name,
                 graph::dim_text(value));
}

void BoundLaunch::set_float(std::string_view name, double value) {
  const auto index = index_of(name);
  Arg& arg = args_[index];
  void* slot = params_[index];
  const auto store = [&](auto typed) { std::memcpy(slot, &typed, sizeof(typed)); };
  switch (arg.type) {
    case ArgType::fp16:
      store(to_fp16(value));
      break;
    case ArgType::bf16:
      store(to_bf16(static_cast<float>(value)));
      break;
    case ArgType::fp32:
      store(static_cast<float>(value));
      break;
    case ArgType::fp64:
      store(value);
      break;
    default:
      NEREID_UNREACHABLE("{}: {} is no float", variant_->symbol, arg.name);
  }
  arg.is_set = true;
}

void BoundLaunch::finish() {
  NEREID_CHECK(!is_finished_, "{}", variant_->symbol);
  for (std::size_t i = 0; i < args_.size(); ++i) {
    NEREID_CHECK(args_[i].is_set, "{}: {} is not set", variant_->symbol, args_[i].name);
    if (!args_[i].size.is_constant()) dynamic_args_.push_back(i);
  }
  for (const auto& axis : axes_) has_dynamic_grid_ |= is_dynamic(axis);
  is_finished_ = true;
  if (!has_dynamic_grid_) evaluate_grid({});
  for (std::size_t i = 0; i < maps_.size(); ++i) {
    for (std::size_t j = 0; j < maps_[i].matrix.rank; ++j)
      maps_[i].is_dynamic |= is_dynamic(maps_[i].shape[j]) || is_dynamic(maps_[i].strides[j]);
    if (!maps_[i].is_dynamic) update_map(i, {});
  }
}

bool BoundLaunch::run(device::Device& device, const graph::Sizes& sizes) {
  update(sizes);
  if (grid_.x == 0 || grid_.y == 0 || grid_.z == 0) return false;
  device.launch({function_, grid_, params_.data()});
  return true;
}

void BoundLaunch::update(const graph::Sizes& sizes) {
  NEREID_CHECK(is_finished_, "{}", variant_->symbol);
  for (const auto index : dynamic_args_)
    store_int(index, graph::dim_value(args_[index].size, sizes));
  if (has_dynamic_grid_) evaluate_grid(sizes);
  for (std::size_t i = 0; i < maps_.size(); ++i)
    if (maps_[i].is_dynamic) update_map(i, sizes);
}

// Encodes anew only what has changed: most maps once, those of activations when a step's size does.
void BoundLaunch::update_map(std::size_t which, const graph::Sizes& sizes) {
  MapArg& map = maps_[which];
  auto& matrix = map.matrix;
  bool is_new = !map.is_encoded;
  bool has_elements = true;
  for (std::size_t i = 0; i < matrix.rank; ++i) {
    const auto n = evaluate(map.shape[i], sizes);
    const auto stride = evaluate(map.strides[i], sizes);
    is_new |= n != matrix.shape[i] || stride != matrix.strides[i];
    has_elements &= n > 0;
    matrix.shape[i] = n;
    matrix.strides[i] = stride;
  }
  // Nothing is launched over no elements, and no map can be made of them.
  if (!is_new || !has_elements) return;
  for (std::size_t i = 0; i < matrix.rank; ++i) {
    const auto behind = map.index + 1 + i;
    store_int(behind, matrix.shape[i]);
    store_int(behind + matrix.rank, matrix.strides[i]);
  }
  encode(which);
}

void BoundLaunch::encode(std::size_t which) {
  NEREID_CHECK(function_->device != nullptr, "{}: the device takes no tensor maps",
               variant_->symbol);
  encoded_maps_[which] = function_->device->tensor_map(maps_[which].matrix);
  maps_[which].is_encoded = true;
}

void BoundLaunch::store_int(std::size_t index, std::int64_t value) {
  const Arg& arg = args_[index];
  NEREID_CHECK(fits(arg.type, value), "{}: {} = {} does not fit {}", variant_->symbol, arg.name,
               value, device::arg_type_row(arg.type).name);
  NEREID_CHECK(!arg.is_aligned || value % 16 == 0, "{}: {} = {}, compiled for multiples of 16",
               variant_->symbol, arg.name, value);
  // Little-endian: the low bytes come first, whatever the argument's width.
  static_assert(std::endian::native == std::endian::little);
  slots_[index] = static_cast<std::uint64_t>(value);
}

void BoundLaunch::evaluate_grid(const graph::Sizes& sizes) {
  std::array<std::uint32_t, 3> axes{};
  for (std::size_t i = 0; i < axes_.size(); ++i) {
    const std::int64_t size = evaluate(axes_[i], sizes);
    NEREID_CHECK(size >= 0 && size <= std::numeric_limits<std::int32_t>::max(),
                 "{}: grid axis {} is {}", variant_->symbol, i, size);
    axes[i] = static_cast<std::uint32_t>(size);
  }
  grid_ = {axes[0], axes[1], axes[2]};
}

}  // namespace nereid::program
