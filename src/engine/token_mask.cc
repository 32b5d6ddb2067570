#include "engine/token_mask.h"

#include <algorithm>

namespace nereid::engine {

// In place: `ids` are few, and in order words between two of them are cleared.
void keep_allowed(std::span<std::uint32_t> mask, std::span<const TokenId> ids) {
  std::size_t n_done = 0;
  for (std::size_t i = 0; i < ids.size();) {
    const auto word = std::size_t(ids[i]) / kMaskBits;
    std::uint32_t kept = 0;
    for (; i < ids.size() && std::size_t(ids[i]) / kMaskBits == word; ++i)
      kept |= std::uint32_t{1} << (std::size_t(ids[i]) % kMaskBits);
    std::ranges::fill(mask.subspan(n_done, word - n_done), 0U);
    mask[word] &= kept;
    n_done = word + 1;
  }
  std::ranges::fill(mask.subspan(n_done), 0U);
}

bool allows_any(std::span<const std::uint32_t> mask, std::int64_t n_vocab) {
  const auto n_whole = std::size_t(n_vocab) / kMaskBits;
  if (std::ranges::any_of(mask.first(n_whole), [](std::uint32_t word) { return word != 0; }))
    return true;
  const auto n_rest = std::size_t(n_vocab) % kMaskBits;
  return n_rest > 0 && (mask[n_whole] & ((std::uint32_t{1} << n_rest) - 1)) != 0;
}

}  // namespace nereid::engine
