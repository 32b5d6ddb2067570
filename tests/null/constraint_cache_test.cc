// Constraints as matchers, from many threads, with more of them than are kept: always those of the
// constraint that was asked for, as the grammar itself gives them.
#include "engine/constraint_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"

namespace nereid::engine {
namespace {

std::shared_ptr<const tokenizer::Tokenizer> demo_tokenizer() {
  return std::make_shared<const tokenizer::Tokenizer>(
      tokenizer::Tokenizer::load(std::string(NEREID_SOURCE_DIR) + "/models/demo"));
}

// Neighbours differ only in where one of their texts ends and the next begins.
std::vector<Constraint> constraints() {
  using Kind = Constraint::Kind;
  return {
      {.kind = Kind::choice, .choices = {"ab", "c"}},
      {.kind = Kind::choice, .choices = {"a", "bc"}},
      {.kind = Kind::choice, .choices = {"abc"}},
      {.kind = Kind::regex, .text = "abc"},
      {.kind = Kind::regex, .text = "[0-9]+"},
      {.kind = Kind::json_schema, .text = "{\"type\": \"integer\"}"},
      {.kind = Kind::json_schema, .text = "{\"type\": \"boolean\"}"},
      {.kind = Kind::json_object},
      {.kind = Kind::tool_calls, .calls = {{"f(", "{\"type\": \"boolean\"}", ")"}}},
      {.kind = Kind::tool_calls, .calls = {{"f", "{\"type\": \"boolean\"}", ")"}}, .before = "("}};
}

TEST(ConstraintCache, GivesWhatTheGrammarGivesWhateverIsKept) {
  const auto tokenizer = demo_tokenizer();
  const auto n_vocab = std::size_t(tokenizer->vocab_size());
  const auto vocabulary = grammar::Vocabulary::of(*tokenizer, n_vocab);
  ConstraintCache cache(tokenizer, std::int64_t(n_vocab), /*max_grammars=*/3);
  const auto all = constraints();
  const auto use = [&](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::uint32_t> got((n_vocab + 31) / 32), expected(got.size());
    for (int i = 0; i < 40; ++i) {
      const auto& constraint = all[random() % all.size()];
      const auto matcher = cache.matchers_of(constraint)();
      grammar::Matcher reference(grammar::compile(constraint, vocabulary), {});
      // A walk through it.
      for (int n = 0; n < 6 && !reference.is_finished(); ++n) {
        matcher->fill_mask(got);
        reference.fill_mask(expected);
        ASSERT_EQ(got, expected);
        ASSERT_EQ(matcher->is_complete(), reference.is_complete());
        std::vector<TokenId> allowed;
        for (std::size_t id = 0; id < n_vocab; ++id)
          if (((expected[id / 32] >> (id % 32)) & 1) != 0) allowed.push_back(TokenId(id));
        const auto id = allowed.at(random() % allowed.size());
        ASSERT_TRUE(reference.accept(id));
        ASSERT_TRUE(matcher->accept(id));
      }
      ASSERT_EQ(matcher->is_finished(), reference.is_finished());
      if (!matcher->is_finished()) continue;
      matcher->fill_mask(got);
      EXPECT_EQ(got, std::vector<std::uint32_t>(got.size(), 0));
    }
  };
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) threads.emplace_back(use, t);
  for (auto& thread : threads) thread.join();
}

TEST(ConstraintCache, NoneIsNoMatcherAndWhatCannotBeIsAnError) {
  ConstraintCache cache(demo_tokenizer(), 8192);
  EXPECT_FALSE(cache.matchers_of({}));
  EXPECT_THROW(cache.matchers_of({.kind = Constraint::Kind::regex, .text = "(a"}), Error);
  EXPECT_THROW(cache.matchers_of({.kind = Constraint::Kind::json_schema, .text = "{"}), Error);
  ConstraintCache without_tokenizer(nullptr, 8192);
  EXPECT_FALSE(without_tokenizer.matchers_of({}));
  EXPECT_THROW(without_tokenizer.matchers_of({.kind = Constraint::Kind::json_object}), Error);
}

}  // namespace
}  // namespace nereid::engine
