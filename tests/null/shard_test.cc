// What each of several ranks has of a model: together all of it, once where it is divided.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "model/checkpoint.h"
#include "model/stored_name.h"
#include "null/config_samples.h"

namespace nereid::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::array kFamilies{"gemma2",      "gemma3", "granite3", "granite_code", "llama3",
                               "mistral_swa", "olmo2",  "phi3",     "qwen2",        "qwen3"};

graph::Graph graph_of(const ModelConfig& config, const Shard& shard, Tail tail) {
  GraphOptions options;
  options.weight_dtype = [](const std::string&) { return DType::fp16; };
  options.tail = tail;
  options.shard = shard;
  options.slot_words = slot_words(config, options.activation, shard.n_ranks, 64, 4);
  return build_graph(config, options);
}

// How often each element of each tensor is a rank's.
using Cover = std::map<std::string, std::vector<int>, std::less<>>;

void add(Cover& cover, const Checkpoint& checkpoint, const graph::Graph& graph) {
  for (const auto& value : graph.values) {
    if (value.kind != graph::ValueKind::weight || names::is_computed(value.name)) continue;
    const auto stored = stored_name(value.name);
    const auto whole = checkpoint.get(stored.tensor);
    const auto n_rows = whole.shape[0];
    const auto n_columns = whole.shape.size() > 1 ? whole.shape[1] : 1;
    const auto rows = stored.rows.value_or(StoredRange{0, n_rows, n_rows});
    const auto columns = stored.columns.value_or(StoredRange{0, n_columns, n_columns});
    ASSERT_EQ(rows.n_stored, n_rows) << value.name;
    ASSERT_EQ(columns.n_stored, n_columns) << value.name;
    ASSERT_EQ(value.shape[0], graph::Dim(rows.count)) << value.name;
    if (value.shape.size() > 1) {
      ASSERT_EQ(value.shape[1], graph::Dim(columns.count)) << value.name;
    }
    auto& counts = cover[std::string(stored.tensor)];
    counts.resize(std::size_t(n_rows * n_columns));
    for (auto row = rows.begin; row < rows.begin + rows.count; ++row)
      for (auto column = columns.begin; column < columns.begin + columns.count; ++column)
        ++counts[std::size_t(row * n_columns + column)];
  }
}

bool is_possible(const ModelConfig& config, std::int64_t n_ranks) {
  try {
    check_ranks(config, n_ranks);
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(Shards, AreTogetherTheModel) {
  int n_seen = 0;
  for (const auto* family : kFamilies) {
    const auto config = fixture(family);
    const auto checkpoint =
        Checkpoint::open(kSource / "tests/fixtures" / family, config.tie_word_embeddings);
    Cover whole;
    add(whole, checkpoint, graph_of(config, {}, Tail::greedy));
    for (const std::int64_t n_ranks : {2, 4, 8}) {
      if (!is_possible(config, n_ranks)) continue;
      ++n_seen;
      Cover cover;
      for (std::int64_t rank = 0; rank < n_ranks; ++rank)
        add(cover, checkpoint, graph_of(config, {rank, n_ranks}, Tail::greedy));
      ASSERT_EQ(cover.size(), whole.size()) << family;
      for (const auto& [tensor, counts] : cover) {
        SCOPED_TRACE(testing::Message() << family << ", " << n_ranks << " ranks: " << tensor);
        const bool is_everybodys =
            tensor.find("norm") != std::string::npos || tensor.ends_with("o_proj.bias") ||
            tensor.ends_with("down_proj.bias") ||
            (!divides_vocabulary(config, n_ranks) &&
             (tensor == "lm_head.weight" || tensor == "model.embed_tokens.weight"));
        const bool is_of_keys = tensor.find(".k_proj") != std::string::npos ||
                                tensor.find(".v_proj") != std::string::npos;
        const auto n_all = static_cast<int>(n_ranks);
        // As many ranks as share a head of keys.
        const auto n_of_keys = std::max<int>(n_all / static_cast<int>(config.n_kv_heads), 1);
        // Of queries, keys and values in one, queries come first.
        const auto n_columns = config.hidden_size;
        const auto n_queries =
            static_cast<std::size_t>(config.n_heads * config.head_dim * n_columns);
        for (std::size_t i = 0; i < counts.size(); ++i) {
          const bool is_fused_key = tensor.find("qkv_proj") != std::string::npos && i >= n_queries;
          const auto wanted = is_everybodys ? n_all : (is_of_keys || is_fused_key ? n_of_keys : 1);
          ASSERT_EQ(counts[i], wanted) << "element " << i;
        }
      }
    }
  }
  EXPECT_GE(n_seen, 12);
}

TEST(Shards, ExchangeTheSameOnAllRanks) {
  const auto config = fixture("llama3");
  for (const auto tail : {Tail::greedy, Tail::sample, Tail::full, Tail::logprob}) {
    auto first = graph_of(config, {0, 2}, tail);
    auto second = graph_of(config, {1, 2}, tail);
    ASSERT_EQ(first.nodes.size(), second.nodes.size());
    int n_exchanges = 0;
    for (std::size_t i = 0; i < first.nodes.size(); ++i) {
      ASSERT_EQ(first.nodes[i].op, second.nodes[i].op);
      n_exchanges += first.nodes[i].row().op_class == graph::OpClass::exchange ? 1 : 0;
    }
    // Embedding, attention and feed-forward of each layer, logits.
    EXPECT_EQ(n_exchanges, 2 + 2 * config.n_layers);
  }
}

TEST(Shards, AHeadOfKeysIsThatOfItsQueries) {
  auto config = fixture("llama3");
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    config.n_kv_heads = 1 << random() % 4;
    const std::int64_t group = 1 + random() % 4;
    config.n_heads = config.n_kv_heads * group;
    config.intermediate_size = 1 << 10;
    const std::int64_t n_ranks = 1 << random() % 4;
    if (!is_possible(config, n_ranks)) continue;
    std::set<std::int64_t> seen;
    for (std::int64_t rank = 0; rank < n_ranks; ++rank) {
      const Shard shard{rank, n_ranks};
      const auto first = first_kv_head(config, shard), n = n_kv_heads(config, shard);
      const auto n_queries = shard.share(config.n_heads);
      for (std::int64_t q = 0; q < n_queries; ++q) {
        const auto of_whole = (shard.first(config.n_heads) + q) / group;
        ASSERT_EQ(first + q / (n_queries / n), of_whole)
            << config.n_heads << " heads, " << config.n_kv_heads << " of keys, " << n_ranks;
        seen.insert(of_whole);
      }
    }
    ASSERT_EQ(std::ssize(seen), config.n_kv_heads);
  }
}

std::string refusal(const ModelConfig& config, std::int64_t n_ranks) {
  try {
    check_ranks(config, n_ranks);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(Shards, WhatDoesNotDivideIsRefused) {
  auto config = fixture("llama3");
  EXPECT_EQ(refusal(config, 1), "");
  EXPECT_THAT(refusal(config, 0), HasSubstr("0 devices for one model: expected 1 to 8"));
  EXPECT_THAT(refusal(config, 9), HasSubstr("9 devices"));
  EXPECT_THAT(refusal(config, 3), AllOf(HasSubstr("3 devices do not divide"), HasSubstr("heads")));
  config.intermediate_size = 1001;
  EXPECT_THAT(refusal(config, 2), HasSubstr("1001 columns of the feed-forward"));
  config = fixture("llama3");
  config.n_heads = 12;
  config.n_kv_heads = 3;
  EXPECT_THAT(refusal(config, 2), HasSubstr("3 heads of keys and values"));
}

TEST(Shards, ColumnsOfAQuantisedWeightKeepItsGroups) {
  auto quantization = Quantization::when_loaded("int4", DType::fp16);
  const auto groups = [&](StoredRange columns) {
    return quantization.format_of_columns("model.layers.0.mlp.down_proj", columns)->n_groups;
  };
  EXPECT_EQ(groups({0, 512, 1024}), 4);
  EXPECT_EQ(groups({512, 512, 1024}), 4);
  EXPECT_EQ(groups({192, 192, 384}), 3);  // of 64: 128 do not divide them
  quantization.packing = WeightPacking::compressed;
  quantization.group = 128;
  EXPECT_EQ(groups({512, 512, 1024}), 4);
  EXPECT_THROW(groups({192, 192, 384}), Error);
  quantization.has_order = true;
  EXPECT_THROW(groups({512, 512, 1024}), Error);
}

}  // namespace
}  // namespace nereid::model
