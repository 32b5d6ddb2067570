#include "tensor/widen.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace nereid {

namespace {

constexpr int kBf16DroppedBits = 16;
constexpr int kFp16DroppedBits = 13;  // of fp32's 23 bits of fraction

float widened_fp16(std::uint16_t bits) {
  const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
  const int exponent = bits >> 10 & 0x1f;
  const int fraction = bits & 0x3ff;
  if (exponent == 0x1f)
    return fraction != 0 ? std::numeric_limits<float>::quiet_NaN()
                         : sign * std::numeric_limits<float>::infinity();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(fraction + 0x400), exponent - 25);
}

// Infinity and NaN are codes of their own only in e5m2, an fp16 cut short; e4m3 has one NaN.
float widened_fp8e4nv(std::uint8_t bits) {
  constexpr int kFraction = 3, kBias = 7, kNan = 0x7f;
  if ((bits & 0x7f) == kNan) return std::numeric_limits<float>::quiet_NaN();
  const int exponent = bits >> kFraction & 0xf;
  const int fraction = bits & 7;
  const float size =
      exponent == 0 ? std::ldexp(static_cast<float>(fraction), 1 - kBias - kFraction)
                    : std::ldexp(static_cast<float>(fraction + 8), exponent - kBias - kFraction);
  return (bits & 0x80) != 0 ? -size : size;
}

// fp32 with fewer bits of fraction.
float rounded_bits(float value, int n_dropped) {
  auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t half_less_one = (1u << (n_dropped - 1)) - 1;
  bits += half_less_one + (bits >> n_dropped & 1);
  bits &= ~((1u << n_dropped) - 1);
  return std::bit_cast<float>(bits);
}

template <typename T>
T element(const HostTensor& tensor, std::size_t i) {
  T value;
  std::memcpy(&value, tensor.bytes.data() + i * sizeof(T), sizeof(T));  // at any alignment
  return value;
}

}  // namespace

std::vector<float> widened(const HostTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(n_elements(tensor.shape)));
  NEREID_CHECK(tensor.bytes.size() == values.size() * dtype_size_bytes(tensor.dtype), "{} bytes",
               tensor.bytes.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (tensor.dtype) {
      case DType::fp32:
        values[i] = element<float>(tensor, i);
        break;
      case DType::fp16:
        values[i] = widened_fp16(element<std::uint16_t>(tensor, i));
        break;
      case DType::bf16:
        values[i] = std::bit_cast<float>(std::uint32_t{element<std::uint16_t>(tensor, i)}
                                         << kBf16DroppedBits);
        break;
      case DType::fp8e4nv:
        values[i] = widened_fp8e4nv(element<std::uint8_t>(tensor, i));
        break;
      case DType::fp8e5:
        values[i] = widened_fp16(static_cast<std::uint16_t>(element<std::uint8_t>(tensor, i) << 8));
        break;
      default:
        NEREID_UNREACHABLE("{} is no floating-point type", dtype_name(tensor.dtype));
    }
  }
  return values;
}

float rounded_to(DType dtype, float value) {
  switch (dtype) {
    case DType::fp32:
      return value;
    case DType::fp16:
      return rounded_bits(value, kFp16DroppedBits);
    case DType::bf16:
      return rounded_bits(value, kBf16DroppedBits);
    default:
      NEREID_UNREACHABLE("{} is no floating-point type", dtype_name(dtype));
  }
}

}  // namespace nereid
