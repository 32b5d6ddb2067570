#include "model/rope.h"

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace nereid::model {

namespace {

// Long wavelengths are stretched by `factor`, short ones kept, those between blended.
double llama3_scaled(const RopeConfig& rope, double inv_freq) {
  const double wavelength = 2 * std::numbers::pi / inv_freq;
  const auto original = static_cast<double>(rope.original_max_position);
  if (wavelength < original / rope.high_freq_factor) return inv_freq;
  if (wavelength > original / rope.low_freq_factor) return inv_freq / rope.factor;
  const double smooth = (original / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * inv_freq / rope.factor + smooth * inv_freq;
}

}  // namespace

std::string_view rope_type_name(RopeType type) {
  switch (type) {
    case RopeType::plain:
      return "default";
    case RopeType::linear:
      return "linear";
    case RopeType::llama3:
      return "llama3";
  }
  NEREID_UNREACHABLE("rope type {}", static_cast<int>(type));
}

std::vector<float> rope_inv_freq(const RopeConfig& rope, std::int64_t head_dim) {
  NEREID_CHECK(head_dim > 0 && head_dim % 2 == 0, "head_dim {}", head_dim);
  std::vector<float> table(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < table.size(); ++i) {
    double inv_freq =
        std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (rope.type == RopeType::linear) inv_freq /= rope.factor;
    if (rope.type == RopeType::llama3) inv_freq = llama3_scaled(rope, inv_freq);
    table[i] = static_cast<float>(inv_freq);
  }
  return table;
}

}  // namespace nereid::model
