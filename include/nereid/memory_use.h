// Goal: how much memory a model takes of its device, or of all its devices, and what for.
// Non-goal: memory of the host, and what drivers take beside.
#pragma once

#include <cstdint>

namespace nereid {

struct MemoryUse {
  // Where the device reads the host's memory, those that are used where the checkpoint is mapped
  // too.
  std::int64_t weight_bytes = 0;
  std::int64_t cache_bytes = 0;       // keys and values
  std::int64_t activation_bytes = 0;  // one arena for all steps
  std::int64_t peak_bytes = 0;        // of all on the device since it was opened, loading included

  // Tables of the tokens that are chosen, the steps' small arrays; while loading, pieces of
  // weights.
  std::int64_t other_bytes() const {
    return peak_bytes - weight_bytes - cache_bytes - activation_bytes;
  }
};

}  // namespace nereid
