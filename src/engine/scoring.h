// Goal: how likely a model finds a given text: the log-probability of each token after those before
// it.
// Non-goal: generating, or texts longer than the context.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/runner.h"

namespace nereid::engine {

struct Score {
  std::vector<float> logprobs;  // [T - 1] natural log; of token t + 1 given tokens 0..t
  double nll = 0;               // mean of -logprobs; NaN for a single token
  double perplexity = 0;        // exp(nll)
};

// Rows of logits in the order of the tokens: `first_row` and [n, V] values.
using LogitsSink = std::function<void(std::int64_t first_row, std::span<const float> logits)>;

// An Error says that there are no tokens, only one (unless its logits are wanted), too many for the
// context, or one outside the vocabulary.
Score score(Runner& runner, std::span<const std::int32_t> ids, const LogitsSink& logits = {});

}  // namespace nereid::engine
