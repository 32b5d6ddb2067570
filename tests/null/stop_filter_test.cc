// Stop strings, whatever the pieces the text arrives in.
#include "engine/stop_filter.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace nereid::engine {
namespace {

// What a byte at a time gives, computed without holding anything back: the reference.
std::string expected_text(const std::string& text, const std::vector<std::string>& stops,
                          bool keeps_stop, bool& is_stopped, std::string& found) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const auto& stop : stops)
      if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    if (longest == 0) continue;
    is_stopped = true;
    found = text.substr(end - longest, longest);
    return text.substr(0, keeps_stop ? end : end - longest);
  }
  is_stopped = false;
  return text;
}

TEST(StopFilter, WithoutStopsPassesEverything) {
  StopFilter filter({});
  std::string out;
  EXPECT_FALSE(filter.push("abc", out));
  EXPECT_EQ(out, "abc");
}

TEST(StopFilter, HoldsBackOnlyWhatMayBeAStart) {
  StopFilter filter({"\n\ndef"});
  std::string out;
  EXPECT_FALSE(filter.push("x = 1\n", out));
  EXPECT_EQ(out, "x = 1");
  EXPECT_FALSE(filter.push("\nd", out));
  EXPECT_EQ(out, "x = 1");
  EXPECT_FALSE(filter.push("one", out));
  EXPECT_EQ(out, "x = 1\n\ndone");
}

TEST(StopFilter, LeavesTheStopStringOut) {
  StopFilter filter({"END"});
  std::string out;
  EXPECT_FALSE(filter.push("text E", out));
  EXPECT_TRUE(filter.push("ND and more", out));
  EXPECT_EQ(out, "text ");
  EXPECT_TRUE(filter.push("after", out));
  filter.finish(out);
  EXPECT_EQ(out, "text ");
}

TEST(StopFilter, KeepsTheStopStringWhereAskedTo) {
  StopFilter filter({"END"}, /*keeps_stop=*/true);
  std::string out;
  EXPECT_FALSE(filter.push("text E", out));
  EXPECT_EQ(out, "text ");
  EXPECT_TRUE(filter.push("ND and more", out));
  EXPECT_EQ(out, "text END");
  EXPECT_TRUE(filter.push("after", out));
  filter.finish(out);
  EXPECT_EQ(out, "text END");
}

TEST(StopFilter, GivesBackWhatWasHeldWhenTheTextEnds) {
  StopFilter filter({"END"});
  std::string out;
  EXPECT_FALSE(filter.push("the EN", out));
  EXPECT_EQ(out, "the ");
  filter.finish(out);
  EXPECT_EQ(out, "the EN");
}

TEST(StopFilter, AnyCutOfTheTextGivesTheSame) {
  std::mt19937 random(1);
  const auto word = [&](std::size_t max_size) {
    std::string text(1 + random() % max_size, 'a');
    for (char& c : text) c = char('a' + random() % 2);
    return text;
  };
  int n_stopped = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops(1 + random() % 3);
    for (auto& stop : stops) stop = word(6);
    const std::string text = word(24);
    bool is_stopped = false;
    const bool keeps_stop = random() % 2 == 0;
    std::string found;
    const std::string expected = expected_text(text, stops, keeps_stop, is_stopped, found);
    n_stopped += is_stopped;

    StopFilter filter(stops, keeps_stop);
    std::string out;
    bool was_stopped = false;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = std::min<std::size_t>(1 + random() % 5, text.size() - at);
      was_stopped = filter.push(text.substr(at, n), out);
      ASSERT_TRUE(expected.starts_with(out)) << text << " gave " << out;
      at += n;
    }
    filter.finish(out);
    ASSERT_EQ(out, expected) << text;
    ASSERT_EQ(was_stopped, is_stopped) << text;
    ASSERT_EQ(filter.found(), found) << text;
  }
  EXPECT_GT(n_stopped, 1000);
}

// Texts of two letters with special tokens "<>" and "<a>" in them; stop strings of both.
TEST(StopFilter, SpecialTokensAreSoughtButNoPartOfTheText) {
  std::mt19937 random(2);
  int n_stopped = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> tokens(random() % 12);
    for (auto& token : tokens) {
      const unsigned kind = random() % 6;
      token = kind == 0 ? "<>" : kind == 1 ? "<a>" : kind < 4 ? "a" : "b";
    }
    const auto is_special = [](const std::string& token) { return token[0] == '<'; };
    std::vector<std::string> stops(1 + random() % 2);
    for (auto& stop : stops)
      for (unsigned n = 1 + random() % 3; n > 0; --n)
        stop += std::vector<std::string>{"a", "b", "<>", "<a>", "a"}[random() % 5];

    // The reference: after each token, the tokens from some token on joined, with special ones and
    // without.
    const bool keeps_stop = random() % 2 == 0;
    std::string expected;
    bool is_stopped = false;
    for (std::size_t end = 1; end <= tokens.size() && !is_stopped; ++end) {
      std::string text;
      for (std::size_t i = 0; i < end; ++i)
        if (!is_special(tokens[i])) text += tokens[i];
      expected = text;
      std::string all;
      std::string tail;
      for (std::size_t begin = end; begin-- > 0;) {
        all.insert(0, tokens[begin]);
        if (!is_special(tokens[begin])) tail.insert(0, tokens[begin]);
        for (const auto& stop : stops) {
          if (stop != all && (stop != tail || is_special(tokens[end - 1]))) continue;
          is_stopped = true;
          expected = keeps_stop ? text : text.substr(0, text.size() - tail.size());
        }
      }
    }
    n_stopped += is_stopped;

    StopFilter filter(stops, keeps_stop);
    std::string out;
    bool was_stopped = false;
    for (const auto& token : tokens) {
      was_stopped = is_special(token) ? filter.push_special(token, out) : filter.push(token, out);
      if (was_stopped) break;
    }
    filter.finish(out);
    std::string shown;
    for (const auto& token : tokens) shown += token + " ";
    for (const auto& stop : stops) shown += "| " + stop;
    ASSERT_EQ(out, expected) << shown;
    ASSERT_EQ(was_stopped, is_stopped) << shown;
  }
  EXPECT_GT(n_stopped, 1000);
}

}  // namespace
}  // namespace nereid::engine
