// Goal: which part of a model each of several ranks has: heads, columns of the feed-forward and
// rows of the vocabulary, as many each; and how large what they exchange is. Non-goal: the exchange
// itself (kernels/lib/exchange.py). Rejected: whole layers to each rank (a pipeline). One
// sequence's tokens would come no sooner.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "tensor/dtype.h"

namespace nereid::model {

// As many as an exchange has inboxes for.
inline constexpr std::int64_t kMaxRanks = 8;

struct Shard {
  std::int64_t rank = 0, n_ranks = 1;

  bool is_whole() const { return n_ranks == 1; }
  // Of n that the ranks divide: how many are a rank's, and the first of them.
  std::int64_t share(std::int64_t n) const { return n / n_ranks; }
  std::int64_t first(std::int64_t n) const { return rank * share(n); }
};

// An Error says what of the model so many ranks do not divide.
void check_ranks(const ModelConfig& config, std::int64_t n_ranks);

// A rank's heads of keys and values, and the first: where there are fewer than ranks, several have
// the same one.
std::int64_t n_kv_heads(const ModelConfig& config, const Shard& shard);
std::int64_t first_kv_head(const ModelConfig& config, const Shard& shard);

// Whether the ranks have rows of the vocabulary each; else each has all.
bool divides_vocabulary(const ModelConfig& config, std::int64_t n_ranks);

// Words of 32 bits of the most that a rank sends in one exchange of a step of so many rows, and of
// an inbox with room for that.
std::int64_t slot_words(const ModelConfig& config, DType activation, std::int64_t n_ranks,
                        std::int64_t max_tokens, std::int64_t max_logit_rows);
std::int64_t inbox_words(std::int64_t n_ranks, std::int64_t slot_words);

}  // namespace nereid::model
