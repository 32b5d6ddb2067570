// Goal: the frequencies of rotary position embedding, as the config's scaling makes them.
// Non-goal: rotating (the rope kernel), scalings that depend on the length of the prompt (longrope
// beyond the context before it was stretched).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace nereid::model {

enum class RopeType : std::uint8_t { plain, linear, dynamic, llama3, yarn, longrope };

// dynamic: as plain up to the end of the model's context, which is as far as the engine goes.
struct RopeConfig {
  RopeType type = RopeType::plain;
  double theta = 10000.0;
  double factor = 1.0;                     // linear, llama3, yarn
  double low_freq_factor = 1.0;            // llama3
  double high_freq_factor = 4.0;           // llama3
  double beta_fast = 32.0;                 // yarn: turns within the context that are kept whole
  double beta_slow = 1.0;                  // yarn: turns below which all is stretched
  bool has_whole_bounds = true;            // yarn: the two as whole elements
  double attention_factor = 1.0;           // yarn, longrope: of rotated queries and keys alike
  std::int64_t original_max_position = 0;  // llama3, yarn, longrope: the context before stretching
  std::vector<double> pair_factors =
      {};  // longrope: each pair's, within that context [head_dim / 2]

  bool operator==(const RopeConfig&) const = default;
};

std::string_view rope_type_name(RopeType type);  // as config.json spells it

// Radians a position, [head_dim / 2]: element i turns elements i and i + head_dim / 2.
std::vector<float> rope_inv_freq(const RopeConfig& rope, std::int64_t head_dim);

}  // namespace nereid::model
