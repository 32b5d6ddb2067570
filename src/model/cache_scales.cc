#include "model/cache_scales.h"

#include <string>

#include "base/error.h"
#include "tensor/widen.h"

namespace nereid::model {

namespace {

double scale_of(const Checkpoint& checkpoint, const std::string& name) {
  // Far from where products with them would be no fp32 any more.
  constexpr float kLeast = 1e-18F, kMost = 1e18F;
  const auto tensor = checkpoint.get(name);
  if (n_elements(tensor.shape) != 1)
    throw Error("{}: expected one number for the layer, got shape {}", name,
                shape_text(tensor.shape));
  const float scale = widened(tensor).front();
  if (!(scale >= kLeast && scale <= kMost))
    throw Error("{} is {}: expected a number from {} to {}; the file is damaged", name, scale,
                kLeast, kMost);
  return scale;
}

}  // namespace

std::vector<CacheScales> read_cache_scales(const Checkpoint& checkpoint, std::int64_t n_layers) {
  std::vector<CacheScales> scales;
  for (std::int64_t layer = 0; layer < n_layers; ++layer) {
    const auto prefix = fmt::format("model.layers.{}.self_attn.", layer);
    scales.push_back({.k = scale_of(checkpoint, prefix + "k_scale"),
                      .v = scale_of(checkpoint, prefix + "v_scale")});
  }
  return scales;
}

}  // namespace nereid::model
