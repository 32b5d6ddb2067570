// Goal: the bits of a mask of tokens, one a token, as the state `allowed` has them.
// Non-goal: who may be chosen (Generator), and what is done about it (kernels/adjust_logits.py).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "nereid/request.h"

namespace nereid::engine {

inline constexpr std::size_t kMaskBits = 32;  // of a word

inline void set_allowed(std::span<std::uint32_t> mask, TokenId id, bool is_allowed) {
  auto& word = mask[std::size_t(id) / kMaskBits];
  const auto bit = std::uint32_t{1} << (std::size_t(id) % kMaskBits);
  word = is_allowed ? word | bit : word & ~bit;
}

// Those that are allowed here and among `ids`, which ascend.
void keep_allowed(std::span<std::uint32_t> mask, std::span<const TokenId> ids);

// Of the first n_vocab.
bool allows_any(std::span<const std::uint32_t> mask, std::int64_t n_vocab);

}  // namespace nereid::engine
