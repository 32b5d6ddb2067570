#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

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

// The element whose frequency turns so often within the original context.
double yarn_element(const RopeConfig& rope, double n_turns, double dim) {
  return dim *
         std::log(static_cast<double>(rope.original_max_position) /
                  (n_turns * 2 * std::numbers::pi)) /
         (2 * std::log(rope.theta));
}

// Elements before `first` are kept, those from `last` on stretched by `factor`, those between
// blended by their place.
struct YarnRamp {
  double first, last;

  YarnRamp(const RopeConfig& rope, double dim)
      : first(yarn_element(rope, rope.beta_fast, dim)),
        last(yarn_element(rope, rope.beta_slow, dim)) {
    if (rope.has_whole_bounds) {
      first = std::floor(first);
      last = std::ceil(last);
    }
    first = std::max(first, 0.0);
    last = std::min(last, dim - 1);
    if (first == last) last += 0.001;  // as transformers has it
  }

  double scaled(const RopeConfig& rope, double inv_freq, double element) const {
    const double stretched = std::clamp((element - first) / (last - first), 0.0, 1.0);
    return inv_freq * (1 - stretched) + inv_freq / rope.factor * stretched;
  }
};

}  // namespace

std::string_view rope_type_name(RopeType type) {
  switch (type) {
    case RopeType::plain:
      return "default";
    case RopeType::linear:
      return "linear";
    case RopeType::dynamic:
      return "dynamic";
    case RopeType::llama3:
      return "llama3";
    case RopeType::yarn:
      return "yarn";
    case RopeType::longrope:
      return "longrope";
  }
  NEREID_UNREACHABLE("rope type {}", static_cast<int>(type));
}

std::vector<float> rope_inv_freq(const RopeConfig& rope, std::int64_t head_dim) {
  NEREID_CHECK(head_dim > 0 && head_dim % 2 == 0, "head_dim {}", head_dim);
  std::vector<float> table(static_cast<std::size_t>(head_dim / 2));
  std::optional<YarnRamp> yarn;
  if (rope.type == RopeType::yarn) yarn.emplace(rope, static_cast<double>(head_dim));
  for (std::size_t i = 0; i < table.size(); ++i) {
    double inv_freq =
        std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (rope.type == RopeType::linear) inv_freq /= rope.factor;
    if (rope.type == RopeType::llama3) inv_freq = llama3_scaled(rope, inv_freq);
    if (rope.type == RopeType::longrope) inv_freq /= rope.pair_factors.at(i);
    if (yarn) inv_freq = yarn->scaled(rope, inv_freq, static_cast<double>(i));
    table[i] = static_cast<float>(inv_freq);
  }
  return table;
}

}  // namespace nereid::model
