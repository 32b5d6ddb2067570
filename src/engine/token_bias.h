// Goal: what a request says of single tokens (biases, and ends that come too early) as the rows of
// a table, one a token.
// Non-goal: adding it to logits (kernels/adjust_logits.py).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nereid/request.h"

namespace nereid::engine {

struct BiasRow {
  TokenId id = 0;
  float value = 0.0F;
  std::int32_t until = 0;  // not chosen while fewer tokens are generated
};

// `end_ids`: tokens that end the request's answers, which min_tokens forbids at first. A UsageError
// where a token is named twice, there are more than kMaxTokenBiases, or no token could be chosen.
std::vector<BiasRow> bias_rows(const Request& request, std::span<const TokenId> end_ids);

}  // namespace nereid::engine
