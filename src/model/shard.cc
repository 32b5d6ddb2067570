#include "model/shard.h"

#include <algorithm>

#include "base/error.h"

namespace nereid::model {

namespace {

// As kernels/lib/exchange.py lays an inbox out.
constexpr std::int64_t kFlags = 64, kParities = 2;
// Every slot begins where kernels were promised that addresses do.
constexpr std::int64_t kSlotAlignmentWords = 64;

}  // namespace

void check_ranks(const ModelConfig& config, std::int64_t n_ranks) {
  if (n_ranks < 1 || n_ranks > kMaxRanks)
    throw Error("{} devices for one model: expected 1 to {}", n_ranks, kMaxRanks);
  const auto check = [&](std::int64_t n, const char* what) {
    if (n % n_ranks != 0)
      throw Error("{} devices do not divide the model's {} {}; choose as many as do", n_ranks, n,
                  what);
  };
  check(config.n_heads, "attention heads");
  check(config.intermediate_size, "columns of the feed-forward");
  if (n_ranks % config.n_kv_heads != 0) check(config.n_kv_heads, "heads of keys and values");
  if (config.n_kv_heads > 1 && n_ranks > config.n_kv_heads && config.qk_norm == QkNorm::row)
    throw Error(
        "{} devices for {} heads of keys that are normalised together: expected at most as many "
        "devices",
        n_ranks, config.n_kv_heads);
}

std::int64_t n_kv_heads(const ModelConfig& config, const Shard& shard) {
  return std::max<std::int64_t>(config.n_kv_heads / shard.n_ranks, 1);
}

std::int64_t first_kv_head(const ModelConfig& config, const Shard& shard) {
  return shard.rank * config.n_kv_heads / shard.n_ranks;
}

bool divides_vocabulary(const ModelConfig& config, std::int64_t n_ranks) {
  return n_ranks > 1 && config.vocab_size % n_ranks == 0;
}

std::int64_t slot_words(const ModelConfig& config, DType activation, std::int64_t n_ranks,
                        std::int64_t max_tokens, std::int64_t max_logit_rows) {
  const auto act_bytes = static_cast<std::int64_t>(dtype_size_bytes(activation));
  // Sums of all columns, and where queries are normalised together, a rank's of these.
  const auto n_columns = std::max(config.hidden_size, config.n_heads * config.head_dim / n_ranks);
  const auto n_bytes =
      std::max(max_tokens * n_columns * act_bytes,
               max_logit_rows * (config.vocab_size / n_ranks) * std::int64_t{sizeof(float)});
  const auto n_words = (n_bytes + 3) / 4;
  return (n_words + kSlotAlignmentWords - 1) / kSlotAlignmentWords * kSlotAlignmentWords;
}

std::int64_t inbox_words(std::int64_t n_ranks, std::int64_t slot_words) {
  return n_ranks * (kFlags + kParities * slot_words);
}

}  // namespace nereid::model
