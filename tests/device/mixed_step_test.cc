// What a sequence gets does not depend on what else is in its step: logits of sequences that decode
// are bit for bit those of a step in which all decode, and logits of a prompt those of a step in
// which none does. Steps of one bucket of rows, so that products are computed by the same kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "device/every_device.h"
#include "device/registry.h"
#include "model/config.h"
#include "program/program.h"

namespace nereid::program {
namespace {

namespace names = model::names;

using Ids = std::vector<std::int32_t>;
using Logits = std::vector<float>;  // [V]

// A sequence's tokens, of which a step computes the last n_new; the others are in the cache.
struct Chunk {
  Ids ids;
  std::size_t n_new = 1;
  Ids blocks;
};

class MixedSteps : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  static constexpr std::int64_t kMaxSequences = 32;
  static constexpr std::int64_t kBlocks = 200;
  static constexpr std::size_t kMostTokens = 200;  // of a sequence

  void SetUp() override {
    const auto& [device, mode] = GetParam();
    device::require_device(device);
    if (!device::is_here(device)) return;
    device_ = device::open_device({device, 2});
    const auto dir = std::filesystem::path(NEREID_SOURCE_DIR) / "models" / "demo";
    program_ = std::make_unique<Program>(*device_, model::ModelConfig::load(dir),
                                         Options{.model_dir = dir,
                                                 .mode = mode,
                                                 .max_sequences = kMaxSequences,
                                                 .n_kv_blocks = kBlocks});
  }

  // A sequence in blocks of its own, from anywhere in the cache.
  Chunk drawn(std::size_t n_tokens, std::size_t n_new) {
    Chunk chunk{.ids = Ids(n_tokens), .n_new = n_new, .blocks = {}};
    for (auto& id : chunk.ids)
      id = static_cast<std::int32_t>(random_() %
                                     static_cast<std::uint64_t>(program_->config().vocab_size));
    const auto block_tokens = static_cast<std::size_t>(program_->limits().block_tokens);
    for (std::size_t at = 0; at < n_tokens; at += block_tokens) {
      chunk.blocks.push_back(free_blocks_.back());
      free_blocks_.pop_back();
    }
    return chunk;
  }

  // Of the last token of each; the first n_decodes decode.
  std::vector<Logits> run(const std::vector<Chunk>& chunks, std::size_t n_decodes) {
    graph::Sizes sizes{.n_tokens = 0,
                       .n_sequences = std::ssize(chunks),
                       .n_decodes = static_cast<std::int64_t>(n_decodes),
                       .n_logits = std::ssize(chunks)};
    for (std::size_t s = 0; s < chunks.size(); ++s) {
      const auto n_new = static_cast<std::int64_t>(chunks[s].n_new);
      sizes.n_tokens += n_new;
      if (s >= n_decodes) sizes.max_query_tokens = std::max(sizes.max_query_tokens, n_new);
    }
    auto& inputs = program_->begin({model::Tail::logprob, sizes});
    const auto input = [&](const char* name) {
      return inputs.elements<std::int32_t>(inputs.handle(name)).data();
    };
    const auto block_tokens = static_cast<std::size_t>(program_->limits().block_tokens);
    std::int64_t row = 0;
    input(names::kQueryStarts)[0] = 0;
    for (std::size_t s = 0; s < chunks.size(); ++s) {
      const auto& [ids, n_new, blocks] = chunks[s];
      for (std::size_t at = ids.size() - n_new; at < ids.size(); ++at, ++row) {
        input(names::kTokenIds)[row] = ids[at];
        input(names::kPositions)[row] = static_cast<std::int32_t>(at);
        input(names::kSlots)[row] = static_cast<std::int32_t>(
            static_cast<std::size_t>(blocks[at / block_tokens]) * block_tokens + at % block_tokens);
      }
      input(names::kQueryStarts)[s + 1] = static_cast<std::int32_t>(row);
      input(names::kContextLens)[s] = static_cast<std::int32_t>(ids.size());
      inputs.set_table_row(s, blocks);
      input(names::kLogitRows)[s] = static_cast<std::int32_t>(row - 1);
      input(names::kTargets)[s] = 0;
    }
    program_->queue({model::Tail::logprob, sizes});
    program_->wait();
    const auto n_vocab = static_cast<std::size_t>(program_->config().vocab_size);
    std::vector<float> all(chunks.size() * n_vocab);
    program_->read_logits(all);
    std::vector<Logits> rows;
    for (auto values = all.begin(); values != all.end();
         values += static_cast<std::ptrdiff_t>(n_vocab))
      rows.emplace_back(values, values + static_cast<std::ptrdiff_t>(n_vocab));
    return rows;
  }

  // All but the tokens that the step under test brings.
  void fill_cache(const Chunk& chunk) {
    if (chunk.ids.size() == chunk.n_new) return;
    auto before = chunk;
    before.ids.resize(chunk.ids.size() - chunk.n_new);
    before.n_new = before.ids.size();
    run({before}, 0);
  }

  void draw_and_compare(std::size_t bucket) {
    free_blocks_.resize(kBlocks);
    std::iota(free_blocks_.begin(), free_blocks_.end(), 0);
    std::ranges::shuffle(free_blocks_, random_);
    const auto between = [&](std::size_t low, std::size_t high) {
      return low + random_() % (high - low + 1);
    };
    const auto n_decodes = between(bucket / 2 + 1, bucket - 1);
    std::vector<Chunk> decodes, prompts;
    for (std::size_t s = 0; s < n_decodes; ++s)
      decodes.push_back(drawn(between(1, kMostTokens), 1));
    for (auto n_left = bucket - n_decodes; n_left > 0 && prompts.size() < 4;) {
      const auto n_new = between(1, n_left);
      prompts.push_back(drawn(n_new + (random_() % 2 == 0 ? 0 : between(1, 100)), n_new));
      n_left -= n_new;
    }
    for (const auto* chunks : {&decodes, &prompts})
      for (const auto& chunk : *chunks) fill_cache(chunk);

    const auto alone = run(decodes, n_decodes);
    auto both = decodes;
    both.insert(both.end(), prompts.begin(), prompts.end());
    const auto mixed = run(both, n_decodes);
    for (std::size_t s = 0; s < n_decodes; ++s)
      EXPECT_EQ(mixed[s], alone[s]) << "sequence " << s << " of " << decodes[s].ids.size();
    // The same tokens, none of which decodes.
    const auto without = run(both, 0);
    for (std::size_t s = 0; s < prompts.size(); ++s)
      EXPECT_EQ(mixed[n_decodes + s], without[n_decodes + s])
          << "prompt " << s << ": " << prompts[s].n_new << " of " << prompts[s].ids.size();
  }

  std::mt19937_64 random_;
  Ids free_blocks_;
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<Program> program_;
};

TEST_P(MixedSteps, ASequenceGetsTheSameBitsInEach) {
  for (std::uint64_t seed = 0; seed < 3; ++seed)
    for (const std::size_t bucket : {4, 8, 16, 32}) {
      SCOPED_TRACE(fmt::format("seed {}, {} rows", seed, bucket));
      random_.seed(seed * 100 + bucket);
      draw_and_compare(bucket);
      if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Devices, MixedSteps,
                         testing::Combine(testing::Values("cpu", "cuda"),
                                          testing::Values("eager", "compiled")),
                         [](const auto& param) {
                           return std::get<0>(param.param) + "_" + std::get<1>(param.param);
                         });

}  // namespace
}  // namespace nereid::program
