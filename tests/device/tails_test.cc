// What is done with the logits of the demo model's steps, beside what the program's own logits and
// plain C++ say: ids that a step takes from the one before, and requests that ask much among
// requests that ask nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "device/every_device.h"
#include "device/registry.h"
#include "engine/sampling_params.h"
#include "model/config.h"
#include "program/program.h"

namespace nereid::program {
namespace {

namespace names = model::names;

using Ids = std::vector<std::int32_t>;
using engine::SamplingRow;
using model::Tail;

constexpr std::int32_t kRows = 6;  // sequences, each a token a step

class Tails : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    device::require_device(GetParam());
    if (!device::is_here(GetParam())) return;
    const auto dir = std::filesystem::path(NEREID_SOURCE_DIR) / "models" / "demo";
    const auto config = model::ModelConfig::load(dir);
    device_ = device::open_device({.name = GetParam(), .n_threads = 2});
    program_ = std::make_unique<Program>(
        *device_, config,
        Options{.model_dir = dir, .max_context_tokens = 64, .max_sequences = kRows});
    n_vocab_ = config.vocab_size;
  }

  template <typename T>
  void write_row(const char* name, std::int32_t slot, const std::vector<T>& row) {
    program_->write_state(name, static_cast<std::size_t>(slot) * row.size() * sizeof(T),
                          std::as_bytes(std::span(row)));
  }

  // The token of each sequence at `position`, its block of the cache its own.
  Ids run(Tail tail, const Ids& token_ids, std::int32_t position,
          const std::vector<SamplingRow>& rows = std::vector<SamplingRow>(kRows)) {
    const auto& limits = program_->limits();
    const program::Step step{tail, {.n_tokens = kRows, .n_sequences = kRows, .n_logits = kRows}};
    auto& inputs = program_->begin(step);
    const auto write = [&](const char* name, const Ids& values) {
      std::ranges::copy(values, inputs.elements<std::int32_t>(inputs.handle(name)).begin());
    };
    Ids slots, starts{0}, logit_rows, token_slots;
    for (std::int32_t s = 0; s < kRows; ++s) {
      slots.push_back(static_cast<std::int32_t>(s * limits.block_tokens) + position);
      starts.push_back(s + 1);
      logit_rows.push_back(s);
      token_slots.push_back(rows[static_cast<std::size_t>(s)].slot);
      inputs.set_table_row(static_cast<std::size_t>(s), Ids{s});
    }
    EXPECT_EQ(limits.max_blocks_per_sequence(), 1);
    write(names::kTokenIds, token_ids);
    write(names::kPositions, Ids(kRows, position));
    write(names::kSlots, slots);
    write(names::kQueryStarts, starts);
    write(names::kContextLens, Ids(kRows, position + 1));
    write(names::kLogitRows, logit_rows);
    write(names::kTargets, Ids(kRows, -1));
    write(names::kTokenSlots, token_slots);
    engine::SamplingInputs(inputs).fill(inputs, rows);
    program_->queue(step);
    const auto output = program_->wait();
    const auto* ids = reinterpret_cast<const std::int32_t*>(output.values[0].data());
    return {ids, ids + kRows};
  }

  Ids random_ids(std::mt19937& random) const {
    Ids ids(kRows);
    for (auto& id : ids) id = static_cast<std::int32_t>(random() % std::size_t(n_vocab_));
    return ids;
  }

  std::unique_ptr<device::Device> device_;
  std::unique_ptr<Program> program_;
  std::int64_t n_vocab_ = 0;
};

TEST_P(Tails, TakeIdsThatTheHostDoesNotKnow) {
  std::mt19937 random(1);
  std::vector<SamplingRow> rows(kRows);
  for (auto& row : rows) row = {.params = {.temperature = 1.5F}, .seed = random()};
  for (const auto tail : {Tail::greedy, Tail::sample, Tail::full}) {
    SCOPED_TRACE(static_cast<int>(tail));
    const auto chosen = run(tail, random_ids(random), 0, rows);
    Ids order(kRows);
    for (std::int32_t r = 0; r < kRows; ++r) order[std::size_t(r)] = r;
    std::ranges::shuffle(order, random);
    auto taken = random_ids(random);
    auto told = taken;
    for (const std::size_t r : {0, 1, 3, 5}) {
      taken[r] = -1 - order[r];
      told[r] = chosen[std::size_t(order[r])];
    }
    run(Tail::greedy, taken, 1);
    std::vector<float> of_taken(std::size_t(kRows * n_vocab_)), of_told(of_taken.size());
    program_->read_logits(of_taken);
    run(Tail::greedy, told, 1);
    program_->read_logits(of_told);
    EXPECT_EQ(of_taken, of_told);
  }
}

// What a slot's rows hold, and what they make of logits: plain C++, in the order of the docs.
struct Asked {
  std::vector<std::int32_t> counts, allowed;
  Ids bias_ids, bias_until;
  std::vector<float> bias_values;

  std::int32_t choose(std::vector<float> x, const SamplingRow& row, std::int32_t fed) const {
    auto n_of = counts;
    n_of[std::size_t(fed)] += 2;
    std::vector<bool> is_out(x.size());
    for (std::size_t v = 0; v < x.size(); ++v)
      is_out[v] = (std::uint32_t(allowed[v / 32]) >> (v % 32) & 1U) == 0;
    for (std::size_t i = 0; i < bias_ids.size(); ++i) {
      if (bias_ids[i] < 0) continue;
      x[std::size_t(bias_ids[i])] += bias_values[i];
      if (row.n_generated < bias_until[i]) is_out[std::size_t(bias_ids[i])] = true;
    }
    std::int32_t best = -1;
    for (std::size_t v = 0; v < x.size(); ++v) {
      const auto& params = row.params;
      if (n_of[v] > 0)
        x[v] = x[v] > 0 ? x[v] / params.repetition_penalty : x[v] * params.repetition_penalty;
      const auto n = n_of[v] / 2;
      x[v] -= static_cast<float>(n) * params.frequency_penalty;
      if (n > 0) x[v] -= params.presence_penalty;
      if (!is_out[v] && (best < 0 || x[v] > x[std::size_t(best)])) best = std::int32_t(v);
    }
    return best;
  }
};

TEST_P(Tails, WhatOneRequestAsksLeavesTheOthersIds) {
  constexpr unsigned kSeeds = 20;
  int n_moved = 0;
  for (unsigned seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto number = [&](float low, float high) {
      return std::uniform_real_distribution<float>(low, high)(random);
    };
    const auto token_ids = random_ids(random);
    const auto likeliest = run(Tail::greedy, token_ids, 0);
    std::vector<float> logits(std::size_t(kRows * n_vocab_));
    program_->read_logits(logits);

    // Even rows ask nothing, but for a temperature. Odd ones take the largest of what they ask for.
    std::vector<SamplingRow> rows(kRows);
    std::vector<Asked> asked(kRows);
    for (std::int32_t r = 0; r < kRows; ++r) {
      auto& row = rows[std::size_t(r)];
      row.seed = random();
      row.n_generated = std::int32_t(random() % 4);
      row.n_top = std::int32_t(random() % 22) - 1;
      if (r % 4 == 0) row.params = {.temperature = 0.8F, .top_k = 50, .top_p = 0.9F};
    }
    const auto plain = run(Tail::sample, token_ids, 0, rows);
    for (std::int32_t r = 1; r < kRows; r += 2) {
      auto& row = rows[std::size_t(r)];
      auto& of_row = asked[std::size_t(r)];
      row.slot = kRows - r;
      row.params.repetition_penalty = number(0.7F, 1.5F);
      row.params.presence_penalty = number(-2, 2);
      row.params.frequency_penalty = number(-1, 1);
      of_row.counts.resize(std::size_t(n_vocab_));
      for (auto& count : of_row.counts) count = random() % 3 == 0 ? std::int32_t(random() % 7) : 0;
      of_row.allowed.resize(std::size_t(model::n_mask_words(n_vocab_)));
      for (auto& word : of_row.allowed) word = std::int32_t(random() | random());
      of_row.bias_ids.assign(std::size_t{kMaxTokenBiases}, -1);
      of_row.bias_until.assign(std::size_t{kMaxTokenBiases}, 0);
      of_row.bias_values.assign(std::size_t{kMaxTokenBiases}, 0);
      // The likeliest gets more or less, and some others.
      for (std::int32_t i = 0; i < 40; ++i) {
        const auto entry = std::size_t(i * 25);
        of_row.bias_ids[entry] = std::int32_t((likeliest[std::size_t(r)] + i * 131) % n_vocab_);
        of_row.bias_until[entry] = std::int32_t(random() % 4);
        of_row.bias_values[entry] = number(-20, 20);
      }
      write_row(names::kTokenCounts, row.slot, of_row.counts);
      write_row(names::kAllowed, row.slot, of_row.allowed);
      write_row(names::kBiasIds, row.slot, of_row.bias_ids);
      write_row(names::kBiasUntil, row.slot, of_row.bias_until);
      write_row(names::kBiasValues, row.slot, of_row.bias_values);
    }
    const auto mixed = run(Tail::full, token_ids, 0, rows);
    for (std::size_t r = 0; r < std::size_t(kRows); ++r) {
      SCOPED_TRACE(r);
      if (rows[r].slot < 0) {
        EXPECT_EQ(mixed[r], plain[r]);
        if (rows[r].params.temperature == 0) {
          EXPECT_EQ(mixed[r], likeliest[r]);
        }
        continue;
      }
      const auto* begin = logits.data() + r * std::size_t(n_vocab_);
      EXPECT_EQ(mixed[r], asked[r].choose({begin, begin + n_vocab_}, rows[r], token_ids[r]));
      n_moved += mixed[r] != likeliest[r] ? 1 : 0;
    }
  }
  // What was asked for decided.
  EXPECT_GT(n_moved, int(kSeeds));
}

INSTANTIATE_TEST_SUITE_P(Devices, Tails, testing::Values("cpu", "cuda"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace nereid::program
