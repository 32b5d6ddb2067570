#include "kernel/launch.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace nereid::kernel {

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

bool fits(ArgType type, std::int64_t value) {
  const int n_bits = 8 * static_cast<int>(device::arg_type_row(type).size_bytes);
  return n_bits == 64 ||
         (value >= -(std::int64_t{1} << (n_bits - 1)) && value < std::int64_t{1} << (n_bits - 1));
}

}  // namespace

std::int64_t SizeValue::value(std::span<const std::int64_t> symbol_values) const {
  return symbol < 0 ? constant : symbol_values[static_cast<std::size_t>(symbol)] * constant;
}

LaunchTemplate::LaunchTemplate(const Variant& variant, const device::Function* function)
    : symbol_(variant.symbol), function_(function), slots_(variant.args.size()) {
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
    map.index = static_cast<int>(made.arg);
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

LaunchTemplate::ArgExpression LaunchTemplate::over_args(const Expression& expression) const {
  ArgExpression made{expression, {}, {}};
  for (const auto& name : expression.symbols()) {
    const int index = arg(name);
    NEREID_CHECK(index >= 0, "{}: \"{}\" reads {}", symbol_, expression.text(), name);
    made.args.push_back(index);
  }
  made.values.resize(made.args.size());
  return made;
}

bool LaunchTemplate::is_dynamic(const ArgExpression& expression) const {
  bool is_dynamic = false;
  for (const int index : expression.args) {
    const Arg& arg = args_[static_cast<std::size_t>(index)];
    NEREID_CHECK(arg.type >= ArgType::i8 && arg.type <= ArgType::i64, "{}: \"{}\" reads {}",
                 symbol_, expression.expression.text(), arg.name);
    is_dynamic |= arg.size.symbol >= 0;
  }
  return is_dynamic;
}

std::int64_t LaunchTemplate::evaluate(ArgExpression& expression,
                                      std::span<const std::int64_t> symbol_values) const {
  for (std::size_t i = 0; i < expression.args.size(); ++i)
    expression.values[i] =
        args_[static_cast<std::size_t>(expression.args[i])].size.value(symbol_values);
  return expression.expression.evaluate(expression.values);
}

int LaunchTemplate::arg(std::string_view name) const {
  for (std::size_t i = 0; i < args_.size(); ++i)
    if (args_[i].name == name) return static_cast<int>(i);
  return -1;
}

void LaunchTemplate::set_pointer(int index, device::Address address) {
  NEREID_CHECK(index >= 0 && index < n_args(), "{}: argument {}", symbol_, index);
  Arg& arg = args_[static_cast<std::size_t>(index)];
  NEREID_CHECK(arg.type == ArgType::pointer || arg.type == ArgType::tensor_map,
               "{}: {} is no pointer", symbol_, arg.name);
  NEREID_CHECK(!arg.is_aligned || address % 16 == 0,
               "{}: {} is {:#x}, compiled for multiples of 16", symbol_, arg.name, address);
  slots_[static_cast<std::size_t>(index)] = address;
  arg.is_set = true;
  for (std::size_t i = 0; i < maps_.size(); ++i)
    if (maps_[i].index == index) {
      maps_[i].matrix.address = address;
      if (maps_[i].is_encoded) encode(i);
    }
}

void LaunchTemplate::set_int(int index, SizeValue value) {
  NEREID_CHECK(!is_finished_ && index >= 0 && index < n_args(), "{}: argument {}", symbol_, index);
  Arg& arg = args_[static_cast<std::size_t>(index)];
  NEREID_CHECK(arg.type >= ArgType::i8 && arg.type <= ArgType::i64, "{}: {} is no integer", symbol_,
               arg.name);
  arg.size = value;
  arg.is_set = true;
  if (value.symbol < 0)
    store_int(index, value.constant);
  else
    NEREID_CHECK(!arg.is_aligned || value.constant % 16 == 0,
                 "{}: {} changes by {}, compiled for multiples of 16", symbol_, arg.name,
                 value.constant);
}

void LaunchTemplate::set_float(int index, double value) {
  NEREID_CHECK(!is_finished_ && index >= 0 && index < n_args(), "{}: argument {}", symbol_, index);
  Arg& arg = args_[static_cast<std::size_t>(index)];
  void* slot = params_[static_cast<std::size_t>(index)];
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
      NEREID_UNREACHABLE("{}: {} is no float", symbol_, arg.name);
  }
  arg.is_set = true;
}

void LaunchTemplate::finish() {
  NEREID_CHECK(!is_finished_, "{}", symbol_);
  for (int i = 0; i < n_args(); ++i) {
    const Arg& arg = args_[static_cast<std::size_t>(i)];
    NEREID_CHECK(arg.is_set, "{}: {} is not set", symbol_, arg.name);
    if (arg.size.symbol >= 0) dynamic_args_.push_back(i);
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

void LaunchTemplate::update(std::span<const std::int64_t> symbol_values) {
  NEREID_CHECK(is_finished_, "{}", symbol_);
  for (const int index : dynamic_args_)
    store_int(index, args_[static_cast<std::size_t>(index)].size.value(symbol_values));
  if (has_dynamic_grid_) evaluate_grid(symbol_values);
  for (std::size_t i = 0; i < maps_.size(); ++i)
    if (maps_[i].is_dynamic) update_map(i, symbol_values);
}

// Encodes anew only what has changed: most maps once, those of activations when a step's size does.
void LaunchTemplate::update_map(std::size_t which, std::span<const std::int64_t> symbol_values) {
  MapArg& map = maps_[which];
  auto& matrix = map.matrix;
  bool is_new = !map.is_encoded;
  bool has_elements = true;
  for (std::size_t i = 0; i < matrix.rank; ++i) {
    const auto n = evaluate(map.shape[i], symbol_values);
    const auto stride = evaluate(map.strides[i], symbol_values);
    is_new |= n != matrix.shape[i] || stride != matrix.strides[i];
    has_elements &= n > 0;
    matrix.shape[i] = n;
    matrix.strides[i] = stride;
  }
  // Nothing is launched over no elements, and no map can be made of them.
  if (!is_new || !has_elements) return;
  for (std::size_t i = 0; i < matrix.rank; ++i) {
    const int behind = map.index + 1 + static_cast<int>(i);
    store_int(behind, matrix.shape[i]);
    store_int(behind + static_cast<int>(matrix.rank), matrix.strides[i]);
  }
  encode(which);
}

void LaunchTemplate::encode(std::size_t which) {
  NEREID_CHECK(function_->device != nullptr, "{}: the device takes no tensor maps", symbol_);
  encoded_maps_[which] = function_->device->tensor_map(maps_[which].matrix);
  maps_[which].is_encoded = true;
}

void LaunchTemplate::store_int(int index, std::int64_t value) {
  const Arg& arg = args_[static_cast<std::size_t>(index)];
  NEREID_CHECK(fits(arg.type, value), "{}: {} = {} does not fit {}", symbol_, arg.name, value,
               device::arg_type_row(arg.type).name);
  NEREID_CHECK(!arg.is_aligned || value % 16 == 0, "{}: {} = {}, compiled for multiples of 16",
               symbol_, arg.name, value);
  // Little-endian: the low bytes come first, whatever the argument's width.
  static_assert(std::endian::native == std::endian::little);
  slots_[static_cast<std::size_t>(index)] = static_cast<std::uint64_t>(value);
}

void LaunchTemplate::evaluate_grid(std::span<const std::int64_t> symbol_values) {
  std::array<std::uint32_t, 3> sizes{};
  for (std::size_t i = 0; i < axes_.size(); ++i) {
    const std::int64_t size = evaluate(axes_[i], symbol_values);
    NEREID_CHECK(size >= 0 && size <= std::numeric_limits<std::int32_t>::max(),
                 "{}: grid axis {} is {}", symbol_, i, size);
    sizes[i] = static_cast<std::uint32_t>(size);
  }
  grid_ = {sizes[0], sizes[1], sizes[2]};
}

}  // namespace nereid::kernel
