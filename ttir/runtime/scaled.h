// Goal: the numbers of block-scaled formats (OCP MX) that are no type of Triton's: elements of 4
// bits, scales of 8.
// Non-goal: their layout: the emitted text has the loops.
// Rejected: vectors: a panel is scaled once and multiplied many times.
#pragma once

#include <bit>
#include <cstdint>

namespace nereid::rt {

// The lowest four bits: sign, two of exponent, one of mantissa.
inline float e2m1_value(int bits) {
  constexpr float kValues[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  const float x = kValues[bits & 7];
  return (bits & 8) != 0 ? -x : x;
}

// 2^(bits - 127); 255 is NaN.
inline float e8m0_value(std::int8_t bits) {
  const auto e = static_cast<std::uint8_t>(bits);
  if (e == 0) return std::bit_cast<float>(std::uint32_t{1} << 22);  // subnormal
  return std::bit_cast<float>(e == 255 ? std::uint32_t{0x7fc00000} : std::uint32_t{e} << 23);
}

}  // namespace nereid::rt
