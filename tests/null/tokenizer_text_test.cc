// The parts of the tokenizer below the vocabulary: UTF-8, the regular expressions' dialect,
// splitting.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/regex.h"
#include "tokenizer/split.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {
namespace {

using testing::ElementsAre;

// "?" stands for U+FFFD, to keep the table readable.
std::string with_replacements(std::string text) {
  for (std::size_t at = 0; (at = text.find('?', at)) != std::string::npos;)
    text.replace(at, 1, kReplacement);
  return text;
}

struct BrokenText {
  std::string bytes;
  std::string expected;  // bytes.decode("utf8", "replace") of Python 3.11
};

const std::vector<BrokenText> kBroken = {
    {"plain", "plain"},
    {"a\xff"
     "b",
     "a?b"},
    {"\xe2\x82", "?"},
    {"\xe2\x82\xac", "\xe2\x82\xac"},
    {"\xf0\x80\x80\x41", "???A"},
    {"\xed\xa0\x80", "???"},
    {"\xf4\x90\x80\x80", "????"},
    {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", "????????A"},
    {"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", "a???b?c??d"},
};

TEST(Utf8, BrokenTextIsReplacedAsPythonDoes) {
  for (const auto& row : kBroken) {
    EXPECT_EQ(to_valid_utf8(row.bytes), with_replacements(row.expected));
    EXPECT_EQ(is_valid_utf8(row.bytes), row.bytes == row.expected);
  }
}

TEST(Utf8, PartsGiveTheSameAsTheWhole) {
  for (const auto& row : kBroken) {
    for (std::size_t first = 0; first <= row.bytes.size(); ++first) {
      for (std::size_t second = first; second <= row.bytes.size(); ++second) {
        Utf8Assembler assembler;
        std::string out;
        const std::string_view bytes = row.bytes;
        for (const auto part :
             {bytes.substr(0, first), bytes.substr(first, second - first), bytes.substr(second)}) {
          assembler.push(part, out);
          EXPECT_TRUE(is_valid_utf8(out));
        }
        assembler.finish(out);
        EXPECT_EQ(out, with_replacements(row.expected)) << first << " " << second;
      }
    }
  }
}

TEST(ByteLevel, EveryByteComesBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
  std::string text;
  append_byte_level(text, bytes);
  EXPECT_EQ(text.size(), byte_level_size_bytes(bytes));
  EXPECT_TRUE(is_valid_utf8(text));
  std::string back;
  append_from_byte_level(back, text);
  EXPECT_EQ(back, bytes);

  std::string space_and_newline;
  append_byte_level(space_and_newline, " \n");
  EXPECT_EQ(space_and_newline, "ĠĊ");
  std::string other;
  append_from_byte_level(other, "Ġ中");  // not in the alphabet: stands for itself
  EXPECT_EQ(other, "Ġ中");
}

TEST(Unicode, NormalForms) {
  EXPECT_EQ(normal_form("cafe\u0301", NormalForm::kNfc), "café");
  EXPECT_EQ(normal_form("café", NormalForm::kNfd), "cafe\u0301");
  EXPECT_EQ(normal_form("ﬁ²", NormalForm::kNfkc), "fi2");
  EXPECT_EQ(normal_form("한", NormalForm::kNfd), "\u1112\u1161\u11ab");
  EXPECT_EQ(normal_form("\u1112\u1161\u11ab", NormalForm::kNfc), "한");
  EXPECT_EQ(normal_form("a\u0315\u0300", NormalForm::kNfd), "a\u0300\u0315");
}

std::vector<std::string> pieces(const std::string& pattern, const std::string& text) {
  const Regex regex(pattern, "test");
  Regex::Matches matches(regex, text);
  std::vector<std::string> found;
  while (const auto match = matches.next())
    found.push_back(text.substr(match->begin, match->end - match->begin));
  return found;
}

// Each expectation is what Oniguruma does, where PCRE2 left alone would differ.
TEST(RegexDialect, OnigurumasMeaning) {
  EXPECT_THAT(pieces(R"(\s)", "a\u180e\u00a0b"), ElementsAre("\u00a0"));
  EXPECT_THAT(pieces(R"([^\s]+)", "a\u180eb c"), ElementsAre("a\u180eb", "c"));
  EXPECT_THAT(pieces(R"(\w+)", "e\u0301a-b"), ElementsAre("e\u0301a", "b"));
  EXPECT_THAT(pieces(R"(\d{1,2}+)", "12345"), ElementsAre("12345"));
  EXPECT_THAT(pieces(R"(\p{N}{1,3})", "12345"), ElementsAre("123", "45"));
  EXPECT_THAT(pieces(R"(a{,2}b)", "aaab"), ElementsAre("aab"));
  EXPECT_THAT(pieces(R"(\h+)", "xAf0g"), ElementsAre("Af0"));
  EXPECT_THAT(pieces(R"(\u0061+)", "baab"), ElementsAre("aa"));
  EXPECT_THAT(pieces(R"(^.)", "ab\ncd"), ElementsAre("a", "c"));
  EXPECT_THAT(pieces(R"((?m:a.b))", "a\nb"), ElementsAre("a\nb"));
  EXPECT_THAT(pieces(R"([[:alpha:]_]+)", "a_é1"), ElementsAre("a_é"));
  EXPECT_THAT(pieces(R"([\]a]+)", "a]b"), ElementsAre("a]"));
  EXPECT_THAT(pieces(R"(x*)", "axb"), ElementsAre("", "x", ""));
}

TEST(RegexDialect, WhatCannotBeTranslatedIsAnError) {
  for (const char* pattern : {"[a--[b]]",
                              "[a-\\d]",
                              "(*UTF)a",
                              "a(?<!",
                              "(",
                              "[a",
                              "a)",
                              "\\",
                              "[[:vowel:]]",
                              "(?#x)",
                              "a(?i)b|c",
                              "(?x)a b",
                              "(?R)",
                              "(?{x})",
                              "\\u12",
                              "*",
                              "\\p{Nonsense}",
                              "\\p{In_Basic_Latin}",
                              "[\\p{Age=6.0}]",
                              "\\p{L",
                              "[[a]",
                              "\\Qa"})
    EXPECT_THROW(Regex(pattern, "test"), Error) << pattern;
}

TEST(RegexDialect, TheErrorNamesTheConstruct) {
  for (const char* construct : {"\\p{In_Basic_Latin}", "\\P{Nonsense}", "(?R", "[:vowel:]"}) {
    const std::string pattern = std::string("a") + (construct[0] == '[' ? "[" : "") + construct +
                                (construct[0] == '[' ? "]" : ")");
    try {
      Regex(pattern, "test");
      ADD_FAILURE() << pattern;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(construct), std::string::npos) << error.what();
    }
  }
}

TEST(Regex, EndlessBacktrackingIsAnError) {
  EXPECT_THROW(pieces("(?:a+)+[bc]", std::string(64, 'a') + "d"), Error);
}

// What one character costs must not be stack: a prompt may be one word of a megabyte.
TEST(Regex, LongRuns) {
  constexpr std::size_t kLong = 1 << 20;
  for (const char letter : {'a', '1', '!', '\n'}) {
    const std::string text(kLong, letter);
    EXPECT_THAT(
        pieces(R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)", text),
        ElementsAre(text));
  }
  EXPECT_EQ(pieces(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", std::string(kLong, ' ') + "a").size(), 2U);
  const std::string text(kLong / 8, 'a');
  EXPECT_THAT(pieces(R"((?:\p{L}|x)+)", text), ElementsAre(text));  // more than the default stack
}

std::vector<std::string> split(const std::string& text, SplitBehavior behavior) {
  std::vector<Span> spans;
  spans_of_characters(
      text, [](char32_t code) { return code == '-'; }, spans);
  apply_behavior(spans, behavior);
  std::vector<std::string> parts;
  for (const Span& span : spans) parts.push_back(text.substr(span.begin, span.end - span.begin));
  return parts;
}

// The examples of Hugging Face's own documentation.
TEST(Split, Behaviors) {
  const std::string text = "the-final--countdown";
  EXPECT_THAT(split(text, SplitBehavior::kRemoved), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(split(text, SplitBehavior::kIsolated),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(split(text, SplitBehavior::kMergedWithPrevious),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(split(text, SplitBehavior::kMergedWithNext),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(split(text, SplitBehavior::kContiguous),
              ElementsAre("the", "-", "final", "--", "countdown"));
}

}  // namespace
}  // namespace nereid::tokenizer
