// Goal: what keys and values of a layer are divided by before a cache of 8 bits takes them, as a
// checkpoint has it: self_attn.k_scale and self_attn.v_scale of each layer.
// Non-goal: whether there are any (quantization.h), and the dividing (kernels/lib/paged.py).
// Rejected: measuring them while running. An answer would depend on what came before it.
#pragma once

#include <cstdint>
#include <vector>

#include "model/checkpoint.h"

namespace nereid::model {

struct CacheScales {
  double k = 1.0, v = 1.0;
};

// Of every layer. An Error names the tensor that is missing, has another shape, or holds no number
// to divide by.
std::vector<CacheScales> read_cache_scales(const Checkpoint& checkpoint, std::int64_t n_layers);

}  // namespace nereid::model
