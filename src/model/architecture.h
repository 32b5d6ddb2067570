// Goal: a config becomes a Graph: the only description of the forward pass, whatever runs it.
// Non-goal: weights' bytes, kernels, batching.
// Rejected: a class per family. The families differ in a few yes/no facts, which are fields of
// ModelConfig, a row each in config.cc; one that differs in more gets a builder of its own, named
// in its row.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/ir.h"
#include "model/cache_scales.h"
#include "model/config.h"
#include "model/quantization.h"
#include "model/shard.h"

namespace nereid::model {

// What is done with the logits of a step.
enum class Tail : std::uint8_t {
  greedy,   // the largest
  sample,   // temperature, top-k, top-p, min-p
  full,     // all that a request may ask: penalties, biases, masks, log-probabilities too
  logprob,  // the log-probability of a given id: scoring
};

// What one request may ask of the choice of its tokens (nereid/request.h). Room for as much is in
// every slot's row of bias_ids, and behind every row of logits.
inline constexpr std::int64_t kMaxBiases = 1024;
inline constexpr std::int64_t kMaxTopLogprobs = 20;
// Of a row of `allowed`: a bit a token.
constexpr std::int64_t n_mask_words(std::int64_t n_vocab) { return (n_vocab + 31) / 32; }

struct GraphOptions {
  DType activation = DType::fp32;
  DType kv_cache = DType::fp16;
  std::vector<CacheScales> cache_scales;  // of layers, for a cache of 8 bits; empty: all 1
  std::function<DType(const std::string& weight)> weight_dtype;  // of what is not quantised
  std::optional<Quantization> quantization;
  std::function<DType(const std::string& tensor)> scale_dtype;  // of those that are kept so
  std::int64_t block_tokens = 64;
  std::int64_t n_blocks = 1;
  std::int64_t max_blocks_per_sequence = 1;
  std::int64_t n_slots = 1;         // rows of the tables that sampling reads
  std::int64_t max_logit_rows = 1;  // of any step
  Tail tail = Tail::greedy;
  Shard shard;                  // what of the model the graph computes
  std::int64_t slot_words = 0;  // of an exchange among ranks (shard.h)
};

// Names of the values that a program fills or owns, but for the parameters of sampling: those are
// named as the roles of the ops that take them.
namespace names {
inline constexpr const char* kTokenIds = "token_ids";        // i32[T]; -1 - r: last_ids[r]
inline constexpr const char* kPositions = "positions";       // i32[T]
inline constexpr const char* kSlots = "slot_mapping";        // i32[T]
inline constexpr const char* kQueryStarts = "query_starts";  // i32[S+1]
inline constexpr const char* kContextLens = "context_lens";  // i32[S]
inline constexpr const char* kBlockTables = "block_tables";  // i32[S, B]
inline constexpr const char* kLogitRows = "logit_rows";      // i32[L]
inline constexpr const char* kTargets = "target_ids";        // i32[L]; -1: the id that was chosen
inline constexpr const char* kTokenSlots = "token_slots";    // i32[T]; -1: not counted
inline constexpr const char* kSeed = "seed";                 // i64[L]
inline constexpr const char* kStep = "n_generated";          // i32[L]
inline constexpr const char* kRowSlots = "row_slots";        // i32[L]; -1: nothing is adjusted
inline constexpr const char* kNTop = "n_top";                // i32[L]; -1: no log-probabilities
inline constexpr const char* kCachePrefix = "cache.";        // states that hold keys or values
inline constexpr const char* kLastIds = "last_ids";          // i32[max_logit_rows]
// Of exchanges among ranks (kernels/lib/exchange.py): an input, the epoch of a step's first one;
// and states, none of them a program's own: a rank's inbox, once more each rank's, and its word
// `stop`.
inline constexpr const char* kEpoch = "exchange_epoch";         // i32[1]
inline constexpr const char* kExchangePrefix = "exchange.";     // of those states
inline constexpr const char* kMyInbox = "exchange.mine";        // i32[words]
inline constexpr const char* kInboxPrefix = "exchange.inbox.";  // and the rank
inline constexpr const char* kStop = "exchange.stop";           // i32[1]
// States by slot: what a request asks, and what it has said.
inline constexpr const char* kTokenCounts = "token_counts";  // i32[slots, V]
inline constexpr const char* kBiasIds = "bias_ids";          // i32[slots, kMaxBiases]
inline constexpr const char* kBiasValues = "bias_values";    // fp32[slots, kMaxBiases]
inline constexpr const char* kBiasUntil = "bias_until";      // i32[slots, kMaxBiases]
inline constexpr const char* kAllowed = "allowed";           // i32[slots, V / 32]
// Weights that are computed from the config, not read.
inline constexpr const char* kInvFreq = "rope.inv_freq";               // fp32[Dh/2]
inline constexpr const char* kWindowInvFreq = "rope.window_inv_freq";  // the same, by another theta
inline constexpr const char* kAlibiSlopes = "attention.alibi_slopes";  // fp32[H]
constexpr bool is_computed(std::string_view weight) {
  return weight == kInvFreq || weight == kWindowInvFreq || weight == kAlibiSlopes;
}
inline constexpr const char* kLogits = "logits";  // fp32[L, V]
}  // namespace names

// Outputs: what the tail gives. greedy: ids, logits; sample: ids; logprob: log-probabilities,
// logits; full: ids, log-probabilities, and of the likeliest tokens ids and log-probabilities.
graph::Graph build_graph(const ModelConfig& config, const GraphOptions& options);

}  // namespace nereid::model
