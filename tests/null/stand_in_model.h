// Goal: what the kernels of a model over the driver stand-in do: a token is a function of all
// tokens before it, as they are found through slots and block tables in the memory of the "GPU"
// when a kernel runs. Non-goal: numbers. Kernels are held to their references elsewhere.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "nereid/request.h"
#include "null/cuda_driver_stand_in.h"
#include "null/scripted_matcher.h"
#include "null/stand_in_bundle.h"

namespace nereid::engine {

namespace cuda = device::cuda;
namespace fs = std::filesystem;

using Ids = std::vector<std::int32_t>;

inline constexpr std::int64_t kBlockTokens = 64;
inline constexpr std::int64_t kNBlocks = 40;
inline constexpr std::int64_t kMaxSequences = 12;  // no power of two: the last bucket
inline constexpr const char* kTarget = "cuda:90";
inline constexpr std::int32_t kNIds =
    500;  // that the tests' model says; the fixture has a few more

inline fs::path fixture() { return fs::path(NEREID_SOURCE_DIR) / "tests" / "fixtures" / "llama3"; }

inline std::int32_t next_id(std::span<const std::int32_t> context) {
  std::uint64_t hash = 14695981039346656037U;
  for (const auto id : context) hash = (hash ^ static_cast<std::uint64_t>(id)) * 1099511628211U;
  return static_cast<std::int32_t>((hash >> 20) % kNIds);
}

// The first from there on that is allowed, from the end on to the beginning; -1: none is.
template <typename IsAllowed>
std::int32_t allowed_from(std::int32_t first, const IsAllowed& is_allowed) {
  for (std::int32_t i = 0; i < kNIds; ++i)
    if (is_allowed((first + i) % kNIds)) return (first + i) % kNIds;
  return -1;
}

// What a request alone gets.
inline Ids continued(const Request& request) {
  Ids ids = request.prompt_ids;
  Ids added;
  const bool is_constrained = request.constraint.kind != Constraint::Kind::none;
  ScriptedMatcher matcher(is_constrained ? std::stoull(request.constraint.text) : 0);
  while (std::ssize(added) < request.max_tokens && !(is_constrained && matcher.is_finished())) {
    auto id = next_id(ids);
    if (is_constrained)
      id = allowed_from(id, [&](std::int32_t some) { return matcher.allows(some); });
    if (id < 0) break;
    if (is_constrained) {
      EXPECT_TRUE(matcher.accept(id));
    }
    ids.push_back(id);
    added.push_back(id);
  }
  return added;
}

// What the kernels do. Arguments are found by name, so that any set of fused kernels serves.
class ModelOfTheTest {
 public:
  explicit ModelOfTheTest(const StandInBundle& bundle)
      : bundle_(bundle), cache_(static_cast<std::size_t>(kNBlocks * kBlockTokens), -1) {}

  void run(const cuda::StandInLaunch& launch) {
    const auto& names = bundle_.args(launch.symbol);
    const auto has = [&](const char* name) {
      return std::ranges::find(names, name) != names.end();
    };
    const auto value = [&](const char* name) {
      const auto it = std::ranges::find(names, name);
      NEREID_CHECK(it != names.end(), "{} has no {}", launch.symbol, name);
      return launch.args[static_cast<std::size_t>(it - names.begin())];
    };
    const auto ids_at = [&](const char* name) {
      return reinterpret_cast<std::int32_t*>(value(name));
    };
    if (launch.symbol == "take_ids")
      take(ids_at("out_ptr"), ids_at("ids_ptr"), ids_at("last_ids_ptr"), value("n_tokens"));
    if (launch.symbol.starts_with("gather_rows")) {  // alone, or with the norm behind it
      // One looks tokens up; one at another address takes the rows that want logits.
      const auto* ids = ids_at("ids_ptr");
      if (ids != token_ids_) {
        logit_rows_ = ids;
      } else {
        attended_.clear();
        query_starts_ = nullptr;
      }
    }
    // What writes the cache, whatever else it was fused with.
    if (launch.symbol == "kv_write") write(ids_at("slot_mapping_ptr"), value("n_tokens"));
    if (launch.symbol == "rope_kv_write") write(ids_at("slots_ptr"), value("n_tokens"));
    if (launch.symbol.starts_with("attention_decode_") && has("slots_ptr"))
      write(ids_at("slots_ptr"), value("n_seqs"));
    if (has("context_lens_ptr")) {
      block_tables_ = ids_at("block_tables_ptr");
      context_lens_ = ids_at("context_lens_ptr");
      const bool is_of_prompts = has("cu_seqlens_ptr");
      if (is_of_prompts) query_starts_ = ids_at("cu_seqlens_ptr");
      max_blocks_ = value("max_blocks");
      n_mixed += !is_of_prompts && query_starts_ != nullptr;
      for (auto s = is_of_prompts ? value("first_seq") : 0; s < value("n_seqs"); ++s)
        attended_.insert(s);
      if (launch.is_replayed) n_replayed_rows.push_back(value("n_seqs"));
    }
    if (launch.symbol == "adjust_logits") {
      n_masked += launch.is_replayed;
      masks_.clear();
      for (std::uint64_t row = 0; row < value("n_rows"); ++row) {
        const auto slot = ids_at("slots_ptr")[row];
        if (slot < 0) continue;
        const auto* words = ids_at("allowed_ptr") + std::uint64_t(slot) * value("allowed_stride");
        masks_[row].assign(words, words + value("allowed_stride"));
      }
    }
    if (launch.symbol == "all_reduce" || launch.symbol == "all_gather")
      epochs.push_back(*ids_at("epoch_ptr") + static_cast<std::int32_t>(value("index")));
    if (is_last(launch)) choose(ids_at("out_ptr"), value("n_rows"));
  }

  static bool is_last(const cuda::StandInLaunch& launch) {
    return launch.symbol == "greedy" || launch.symbol == "greedy_split" ||
           launch.symbol == "sample" || launch.symbol == "sample_split";
  }

  // Another runner comes, with its own memory.
  void forget() { std::ranges::fill(cache_, -1); }

  std::vector<std::uint64_t> n_replayed_rows;  // of each attention in a replayed step
  std::uint64_t n_padded = 0;
  std::uint64_t n_masked = 0;        // replayed steps of the largest kind
  std::uint64_t n_mixed = 0;         // attention of decoding rows beside prompts
  std::vector<std::int32_t> epochs;  // of exchanges, in the order in which they ran

 private:
  void take(std::int32_t* out, const std::int32_t* ids, const std::int32_t* last_ids,
            std::uint64_t n_tokens) {
    for (std::uint64_t t = 0; t < n_tokens; ++t)
      out[t] = ids[t] >= 0 ? ids[t] : last_ids[-1 - ids[t]];
    token_ids_ = out;
  }

  void write(const std::int32_t* slots, std::uint64_t n_tokens) {
    for (std::uint64_t t = 0; t < n_tokens; ++t)
      if (slots[t] >= 0) cache_.at(static_cast<std::size_t>(slots[t])) = token_ids_[t];
  }

  // The sequence whose last token is row `t` of the step.
  std::uint64_t sequence_of(std::int32_t t) const {
    if (query_starts_ == nullptr) return static_cast<std::uint64_t>(t);
    std::uint64_t s = 0;
    while (query_starts_[s + 1] <= t) ++s;
    return s;
  }

  void choose(std::int32_t* out, std::uint64_t n_rows) {
    for (std::uint64_t row = 0; row < n_rows; ++row) {
      const auto s = sequence_of(logit_rows_[row]);
      NEREID_CHECK(attended_.contains(s), "row {} of sequence {}: no attention", row, s);
      Ids context;
      for (std::int64_t p = 0; p < context_lens_[s]; ++p) {
        const auto block =
            block_tables_[s * max_blocks_ + static_cast<std::uint64_t>(p / kBlockTokens)];
        context.push_back(
            cache_.at(static_cast<std::size_t>(block * kBlockTokens + p % kBlockTokens)));
      }
      n_padded += context.empty();
      out[row] = context.empty() ? -7 : next_id(context);
      const auto mask = masks_.find(row);
      if (context.empty() || mask == masks_.end()) continue;
      out[row] = std::max(0, allowed_from(out[row], [&](std::int32_t id) {
                            const auto word =
                                static_cast<std::uint32_t>(mask->second.at(std::size_t(id) / 32));
                            return ((word >> (id % 32)) & 1) != 0;
                          }));
    }
    masks_.clear();
  }

  const StandInBundle& bundle_;
  Ids cache_;
  const std::int32_t* token_ids_ = nullptr;
  const std::int32_t* logit_rows_ = nullptr;
  const std::int32_t* block_tables_ = nullptr;
  const std::int32_t* context_lens_ = nullptr;
  const std::int32_t* query_starts_ = nullptr;
  std::set<std::uint64_t> attended_;  // sequences of the step
  std::uint64_t max_blocks_ = 0;
  std::map<std::uint64_t, Ids> masks_;  // of the step's rows that have a slot
};

}  // namespace nereid::engine
