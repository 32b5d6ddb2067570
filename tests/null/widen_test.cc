#include "tensor/widen.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>

namespace nereid {
namespace {

float of_bits(DType dtype, std::uint16_t bits) {
  const HostTensor tensor{dtype, {1}, std::as_bytes(std::span(&bits, 1))};
  return widened(tensor).at(0);
}

// Of the format's definition: sign, exponent with its bias, fraction.
double defined(std::uint16_t bits, int n_fraction, int bias) {
  const int n_exponent = 15 - n_fraction;
  const int exponent = bits >> n_fraction & ((1 << n_exponent) - 1);
  const int fraction = bits & ((1 << n_fraction) - 1);
  const double size =
      exponent == 0 ? std::ldexp(double(fraction), 1 - bias - n_fraction)
                    : std::ldexp(1 + std::ldexp(double(fraction), -n_fraction), exponent - bias);
  return (bits & 0x8000) != 0 ? -size : size;
}

TEST(Widen, EveryFiniteNumber) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = std::uint16_t(bits);
    if ((bits & 0x7c00) != 0x7c00) {
      EXPECT_EQ(of_bits(DType::fp16, half), defined(half, 10, 15));
    }
    if ((bits & 0x7f80) != 0x7f80) {
      EXPECT_EQ(of_bits(DType::bf16, half), defined(half, 7, 127));
    }
  }
  EXPECT_EQ(of_bits(DType::fp16, 0xfc00), -INFINITY);
  EXPECT_TRUE(std::isnan(of_bits(DType::fp16, 0x7c01)));
  EXPECT_TRUE(std::isnan(of_bits(DType::bf16, 0x7f81)));
}

TEST(Widen, AtAnyAlignment) {
  const std::array<std::uint8_t, 9> bytes{0, 0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc1};
  const HostTensor tensor{DType::fp32, {2}, std::as_bytes(std::span(bytes)).subspan(1)};
  EXPECT_EQ(widened(tensor), (std::vector<float>{1.0F, -10.0F}));
}

// No number of the type is nearer, and of two as near the even one is taken.
TEST(Widen, RoundsToTheNearest) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> drawn(1e-3F, 1e4F);
  for (const auto& [dtype, n_fraction] : {std::pair{DType::fp16, 10}, {DType::bf16, 7}}) {
    EXPECT_EQ(rounded_to(dtype, 48.0F), 48.0F);
    const float step = std::ldexp(1.0F, -n_fraction);
    EXPECT_EQ(rounded_to(dtype, 1 + step / 2), 1.0F);
    EXPECT_EQ(rounded_to(dtype, 1 + 3 * step / 2), 1 + 2 * step);
    for (int i = 0; i < 1000; ++i) {
      const float value = drawn(random);
      const double unit = std::ldexp(1.0, std::ilogb(value) - n_fraction);
      EXPECT_EQ(rounded_to(dtype, value), std::nearbyint(value / unit) * unit) << value;
    }
  }
  EXPECT_EQ(rounded_to(DType::fp32, 1.1F), 1.1F);
}

}  // namespace
}  // namespace nereid
