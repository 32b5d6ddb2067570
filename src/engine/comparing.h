// Goal: how far a model is from another, over a given text: perplexities, and how the distributions
// of each next token differ. Both read the same steps side by side, so that no more logits than a
// step's are kept.
// Non-goal: what makes them differ (quantised weights, another mode, other kernels).
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "engine/scoring.h"

namespace nereid::engine {

struct Comparison {
  Score p, q;
  // Of the positions that are scored: sum p ln(p / q) over the vocabulary, natural log.
  double kl_mean = 0, kl_max = 0;
  double same_top = 0;  // the part of them at which the likeliest token is the same

  double perplexity_ratio() const { return q.perplexity / p.perplexity; }
};

// Of logits [n, V] of both, n values each (program/logit_comparison.h).
using CompareLogits = std::function<void(std::span<const float> p, std::span<const float> q,
                                         std::span<float> kl, std::span<std::int32_t> is_same)>;

// Errors as of score(), and where the vocabularies differ in size.
Comparison compare(Runner& p, Runner& q, std::span<const std::int32_t> ids,
                   const CompareLogits& compare_logits);

}  // namespace nereid::engine
