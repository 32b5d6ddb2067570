// Goal: which steps share a plan: what is done with their logits, whether all their sequences
// decode, how many rows they have at most, by buckets, and whether one context is far longer.
// Non-goal: a step's own sizes (graph/sizes.h).
// Rejected: a plan for each number of rows. Kernels are compiled for a bucket, and mask the rest.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "graph/sizes.h"
#include "model/architecture.h"

namespace nereid::program {

inline constexpr std::array<model::Tail, 4> kTails{model::Tail::greedy, model::Tail::sample,
                                                   model::Tail::full, model::Tail::logprob};

// The most rows of each bucket; one more bucket holds all that is larger.
inline constexpr std::array<std::int64_t, 10> kBucketRows{1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
inline constexpr std::size_t kNBuckets = kBucketRows.size() + 1;

constexpr std::size_t bucket_of(std::int64_t n_rows) {
  return static_cast<std::size_t>(std::ranges::lower_bound(kBucketRows, n_rows) -
                                  kBucketRows.begin());
}

struct StepClass {
  model::Tail tail = model::Tail::greedy;
  bool is_decode = false;  // no prompts; others may hold sequences that decode, too
  std::size_t token_bucket = 0;
  std::size_t logit_bucket = 0;
  bool is_uneven = false;  // of steps that only decode: shares of the work that suit a long context

  static constexpr StepClass of(model::Tail tail, const graph::Sizes& sizes) {
    return {tail, sizes.n_decodes == sizes.n_sequences, bucket_of(sizes.n_tokens),
            bucket_of(sizes.n_logits), sizes.n_decodes == sizes.n_sequences && sizes.is_uneven};
  }
  static constexpr std::size_t kNumber = kTails.size() * kNBuckets * kNBuckets * 4;
  constexpr std::size_t index() const {
    return ((static_cast<std::size_t>(tail) * kNBuckets + token_bucket) * kNBuckets +
            logit_bucket) *
               4 +
           (is_uneven ? 2 : 0) + (is_decode ? 1 : 0);
  }
  bool operator==(const StepClass&) const = default;
};

}  // namespace nereid::program
