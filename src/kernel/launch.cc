#include "kernel/launch.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace nereid::kernel {

namespace {

using device::ArgType;

bool is_float(ArgType type) {
  return type == ArgType::fp16 || type == ArgType::bf16 || type == ArgType::fp32 ||
         type == ArgType::fp64;
}

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
  for (std::size_t i = 0; i < axes_.size(); ++i) {
    axes_[i].expression = variant.grid[i];
    for (const auto& name : variant.grid[i].symbols()) {
      const int index = arg(name);
      NEREID_CHECK(index >= 0, "{}: the grid reads {}", symbol_, name);
      axes_[i].args.push_back(index);
    }
    axes_[i].values.resize(axes_[i].args.size());
  }
}

int LaunchTemplate::arg(std::string_view name) const {
  for (std::size_t i = 0; i < args_.size(); ++i)
    if (args_[i].name == name) return static_cast<int>(i);
  return -1;
}

void LaunchTemplate::set_pointer(int index, device::Address address) {
  NEREID_CHECK(index >= 0 && index < n_args(), "{}: argument {}", symbol_, index);
  Arg& arg = args_[static_cast<std::size_t>(index)];
  NEREID_CHECK(arg.type == ArgType::pointer, "{}: {} is no pointer", symbol_, arg.name);
  NEREID_CHECK(!arg.is_aligned || address % 16 == 0,
               "{}: {} is {:#x}, compiled for multiples of 16", symbol_, arg.name, address);
  slots_[static_cast<std::size_t>(index)] = address;
  arg.is_set = true;
}

void LaunchTemplate::set_int(int index, SizeValue value) {
  NEREID_CHECK(!is_finished_ && index >= 0 && index < n_args(), "{}: argument {}", symbol_, index);
  Arg& arg = args_[static_cast<std::size_t>(index)];
  NEREID_CHECK(arg.type != ArgType::pointer && !is_float(arg.type), "{}: {} is no integer", symbol_,
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
  for (const auto& axis : axes_)
    for (const int index : axis.args) {
      const Arg& arg = args_[static_cast<std::size_t>(index)];
      NEREID_CHECK(arg.type != ArgType::pointer && !is_float(arg.type), "{}: the grid reads {}",
                   symbol_, arg.name);
      has_dynamic_grid_ |= arg.size.symbol >= 0;
    }
  is_finished_ = true;
  if (!has_dynamic_grid_) evaluate_grid({});
}

void LaunchTemplate::update(std::span<const std::int64_t> symbol_values) {
  NEREID_CHECK(is_finished_, "{}", symbol_);
  for (const int index : dynamic_args_)
    store_int(index, args_[static_cast<std::size_t>(index)].size.value(symbol_values));
  if (has_dynamic_grid_) evaluate_grid(symbol_values);
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
    GridAxis& axis = axes_[i];
    for (std::size_t j = 0; j < axis.args.size(); ++j)
      axis.values[j] = args_[static_cast<std::size_t>(axis.args[j])].size.value(symbol_values);
    const std::int64_t size = axis.expression.evaluate(axis.values);
    NEREID_CHECK(size >= 0 && size <= std::numeric_limits<std::int32_t>::max(),
                 "{}: grid axis {} is {}", symbol_, i, size);
    sizes[i] = static_cast<std::uint32_t>(size);
  }
  grid_ = {sizes[0], sizes[1], sizes[2]};
}

}  // namespace nereid::kernel
