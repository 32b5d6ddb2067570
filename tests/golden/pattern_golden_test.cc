// Sets of characters in regular expressions, character by character as Oniguruma matches them
// (patterns/make.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/json.h"
#include "tokenizer/regex.h"

namespace nereid::tokenizer {
namespace {

using Spans = std::vector<std::vector<std::size_t>>;

std::size_t n_characters(std::string_view text) {
  return std::size_t(
      std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
}

TEST(PatternGolden, AgreesWithOniguruma) {
  const Json golden = read_json_file(NEREID_SOURCE_DIR "/tests/golden/patterns/patterns.json");
  const auto text = golden["text"].get<std::string>();
  ASSERT_GE(golden["patterns"].size(), 190U);
  for (const Json& row : golden["patterns"]) {
    const auto pattern = row["pattern"].get<std::string>();
    SCOPED_TRACE(pattern);
    const Regex regex(pattern, "golden");
    Regex::Matches matches(regex, text);
    Spans spans;
    while (const auto match = matches.next())
      spans.push_back(
          {n_characters(std::string_view(text).substr(0, match->begin)),
           n_characters(std::string_view(text).substr(match->begin, match->end - match->begin))});
    EXPECT_EQ(spans, row["matches"].get<Spans>());
  }
}

}  // namespace
}  // namespace nereid::tokenizer
