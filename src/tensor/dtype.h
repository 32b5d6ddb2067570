// Goal: the element types of tensors and kernel arguments, one row each; names as Triton spells
// them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace nereid {

enum class DType : std::uint8_t { fp32, fp16, bf16, fp8e4nv, fp8e5, i64, i32, i16, i8, u8, i1 };

struct DTypeRow {
  DType dtype;
  std::string_view name;         // in graphs, requests and kernel signatures
  std::string_view safetensors;  // in safetensors headers; empty: not stored there
  std::size_t size_bytes;
  bool is_float;  // numbers are computed with; the 8-bit floats only stand for quantised weights
};

inline constexpr std::array<DTypeRow, 11> kDTypes{{
    {DType::fp32, "fp32", "F32", 4, true},
    {DType::fp16, "fp16", "F16", 2, true},
    {DType::bf16, "bf16", "BF16", 2, true},
    {DType::fp8e4nv, "fp8e4nv", "F8_E4M3", 1, false},  // without infinities: 0x7f is NaN
    {DType::fp8e5, "fp8e5", "F8_E5M2", 1, false},
    {DType::i64, "i64", "I64", 8, false},
    {DType::i32, "i32", "I32", 4, false},
    {DType::i16, "i16", "I16", 2, false},
    {DType::i8, "i8", "I8", 1, false},
    {DType::u8, "u8", "U8", 1, false},
    {DType::i1, "i1", "BOOL", 1, false},
}};

constexpr const DTypeRow& dtype_row(DType dtype) {
  return kDTypes[static_cast<std::size_t>(dtype)];
}
constexpr std::string_view dtype_name(DType dtype) { return dtype_row(dtype).name; }
constexpr std::size_t dtype_size_bytes(DType dtype) { return dtype_row(dtype).size_bytes; }

constexpr std::optional<DType> dtype_from_name(std::string_view name) {
  for (const auto& row : kDTypes)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

constexpr std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const auto& row : kDTypes)
    if (!row.safetensors.empty() && row.safetensors == name) return row.dtype;
  return std::nullopt;
}

static_assert([] {
  for (std::size_t i = 0; i < kDTypes.size(); ++i)
    if (kDTypes[i].dtype != static_cast<DType>(i)) return false;
  return true;
}());

}  // namespace nereid
