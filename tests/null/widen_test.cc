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
double defined(std::uint32_t bits, int n_fraction, int bias, int n_bits = 16) {
  const int n_exponent = n_bits - 1 - n_fraction;
  const auto exponent = int(bits >> n_fraction & ((1u << n_exponent) - 1));
  const auto fraction = int(bits & ((1u << n_fraction) - 1));
  const double size =
      exponent == 0 ? std::ldexp(double(fraction), 1 - bias - n_fraction)
                    : std::ldexp(1 + std::ldexp(double(fraction), -n_fraction), exponent - bias);
  return (bits >> (n_bits - 1) & 1) != 0 ? -size : size;
}
double defined8(std::uint8_t bits, int n_fraction, int bias) {
  return defined(bits, n_fraction, bias, 8);
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

TEST(Widen, EveryCodeOfTheEightBitFloats) {
  for (int code = 0; code < 0x100; ++code) {
    const auto bits = std::uint8_t(code);
    const auto of = [&](DType dtype) {
      return widened({dtype, {1}, std::as_bytes(std::span(&bits, 1))}).at(0);
    };
    const float size = of(DType::fp8e4nv);
    if ((bits & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(size));
    } else {
      EXPECT_EQ(size, defined8(bits, 3, 7)) << code;
      EXPECT_EQ(std::signbit(size), bits >= 0x80) << code;
    }
    const float long_range = of(DType::fp8e5);
    if ((bits & 0x7f) > 0x7c) {
      EXPECT_TRUE(std::isnan(long_range));
    } else if ((bits & 0x7f) == 0x7c) {
      EXPECT_EQ(long_range, bits >= 0x80 ? -INFINITY : INFINITY);
    } else {
      EXPECT_EQ(long_range, defined8(bits, 2, 15)) << code;
      EXPECT_EQ(std::signbit(long_range), bits >= 0x80) << code;
    }
  }
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
