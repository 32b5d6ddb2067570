// What the tests in Python do not reach: masks against every token by itself, tool calls, choices,
// regular expressions, hostile constraints, the vocabulary of a real tokenizer.
#include "grammar/grammar.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "tokenizer/tokenizer.h"

namespace nereid::grammar {
namespace {

constexpr TokenId kEnd = 0;
const std::vector<TokenId> kEnds = {kEnd};

std::shared_ptr<const Vocabulary> small_vocabulary() {
  std::vector<std::string> texts = {""};
  for (int byte = 0; byte < 256; ++byte) texts.emplace_back(1, static_cast<char>(byte));
  for (const char* text :
       {"{\"", "\":", "\",\"", "\"}", "}}", "[{", "1,", ", ", "\n  ", "true", "ab", "a\":1",
        "\\u00", "\xC3", "\"a\":\"b\"}", "12", "]}", "<call>", "</call>\n"})
    texts.emplace_back(text);
  return std::make_shared<const Vocabulary>(std::move(texts));
}

Constraint of_schema(std::string schema) {
  return {.kind = Constraint::Kind::json_schema, .text = std::move(schema)};
}

bool accepts(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  Matcher matcher(grammar, kEnds);
  return matcher.accept_bytes(text) && matcher.is_complete();
}

std::string error_of(const Constraint& constraint) {
  try {
    compile(constraint, small_vocabulary());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "";
}

TEST(Grammar, MaskIsWhatAcceptSaysOfEveryToken) {
  const auto vocabulary = small_vocabulary();
  const std::vector<Constraint> constraints = {
      {.kind = Constraint::Kind::json_object},
      of_schema(
          R"({"properties": {"a": {"type": "string", "maxLength": 3}, "ab": {"type": "integer",
                   "minimum": -5, "maximum": 120}}, "required": ["ab"], "maxProperties": 3})"),
      of_schema(
          R"({"type": "array", "minItems": 2, "items": {"enum": ["a", "ab", 1, 12, {"a": 1}]}})"),
      of_schema(R"({"anyOf": [{"type": "object", "additionalProperties": {"$ref": "#"}},
                   {"type": "string", "pattern": "^(ab)*$"}, {"type": "number"}]})"),
      of_schema(R"({"patternProperties": {"^a": {"type": "integer"}}, "type": "object",
                   "additionalProperties": {"type": "string"}, "minProperties": 2})"),
      {.kind = Constraint::Kind::regex, .text = "(a|ab)*[^a-y]{1,3}\\d?"},
      {.kind = Constraint::Kind::choice, .choices = {"ab", "a\":1", "true", "true12"}},
      {.kind = Constraint::Kind::tool_calls,
       .calls = {{"<call>", R"({"type": "object", "properties": {"a": {}}})", "</call>"},
                 {"<call>a", R"({"type": "integer"})", ""}},
       .before = "",
       .between = "\n",
       .after = "ab",
       .max_calls = 2},
  };
  const auto seed =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  for (const Constraint& constraint : constraints) {
    const auto grammar = compile(constraint, vocabulary);
    for (int walk = 0; walk < 20; ++walk) {
      Matcher matcher(grammar, kEnds);
      for (int step = 0; step < 30 && !matcher.is_finished(); ++step) {
        std::vector<std::uint32_t> words((vocabulary->n_tokens() + 31) / 32, 0xFFFFFFFF);
        matcher.fill_mask(words);
        std::vector<TokenId> allowed;
        for (TokenId id = 0; id < static_cast<TokenId>(vocabulary->n_tokens()); ++id) {
          Matcher copy = matcher;
          const bool is_accepted = copy.accept(id);
          const auto at = static_cast<std::size_t>(id);
          ASSERT_EQ((words[at / 32] >> (at % 32) & 1) != 0, is_accepted)
              << "token " << id << " \"" << vocabulary->text(id) << "\" at step " << step;
          if (is_accepted && id != kEnd) allowed.push_back(id);
        }
        ASSERT_TRUE(!allowed.empty() || matcher.is_complete());
        if (allowed.empty()) break;
        ASSERT_TRUE(matcher.accept(allowed[rng() % allowed.size()]));
      }
    }
  }
}

TEST(Grammar, ToolCallsAreOneOrMoreOfTheAlternatives) {
  const auto grammar =
      compile({.kind = Constraint::Kind::tool_calls,
               .calls = {{"<f>", R"({"type": "object", "required": ["x"], "properties": {"x":
                          {"type": "integer"}}, "additionalProperties": false})",
                          "</f>"},
                         {"<g>", R"({"type": "object", "maxProperties": 0})", "</g>"}},
               .before = "[",
               .between = ",",
               .after = "]",
               .max_calls = 2},
              small_vocabulary());
  EXPECT_TRUE(accepts(grammar, R"([<f>{"x":1}</f>])"));
  EXPECT_TRUE(accepts(grammar, R"([<g>{}</g>,<f>{"x": -12}</f>])"));
  EXPECT_FALSE(accepts(grammar, R"([<g>{}</g>,<g>{}</g>,<g>{}</g>])"));
  EXPECT_FALSE(accepts(grammar, R"([<g>{"x":1}</g>])"));
  EXPECT_FALSE(accepts(grammar, R"([])"));
  EXPECT_FALSE(accepts(grammar, R"([<f>{"x":1}</f>)"));
}

TEST(Grammar, NothingFollowsAnAnswerThatIsFinished) {
  const auto vocabulary = small_vocabulary();
  Matcher matcher(compile({.kind = Constraint::Kind::json_object}, vocabulary), kEnds);
  EXPECT_FALSE(matcher.accept(kEnd));
  ASSERT_TRUE(matcher.accept_bytes(R"({"a":[1,{"b":null}]})"));
  EXPECT_TRUE(matcher.is_finished());
  std::vector<std::uint32_t> words((vocabulary->n_tokens() + 31) / 32);
  matcher.fill_mask(words);
  EXPECT_EQ(words[0], 1U);
  EXPECT_FALSE(matcher.accept_bytes(" "));
  EXPECT_TRUE(matcher.accept(kEnd));
  EXPECT_FALSE(matcher.accept_bytes("{"));
}

TEST(Grammar, NoPropertyComesTwiceAndBlanksEnd) {
  const auto grammar =
      compile(of_schema(R"({"type": "object", "properties": {"a": {}}})"), small_vocabulary());
  EXPECT_FALSE(accepts(grammar, R"({"a":1,"a":2})"));
  EXPECT_FALSE(accepts(grammar, R"({"a":1,"\u0061":2})"));
  EXPECT_FALSE(accepts(grammar, R"({"x":1,"\u0078":2})"));
  EXPECT_TRUE(accepts(grammar, R"({"x":1,"a":2,"y":3})"));
  EXPECT_FALSE(accepts(grammar, "{" + std::string(9, ' ') + "}"));
  EXPECT_FALSE(accepts(grammar, "{\n\n}"));
  EXPECT_TRUE(accepts(grammar, "{\n\t\"a\": 1\n}"));
}

TEST(Grammar, OtherKeysAreThoseWhoseValuesCanBe) {
  // No value fits what the keys without a pattern ask for; that takes more than its types to see.
  const auto pattern_only = compile(of_schema(R"({
    "type": "object", "patternProperties": {"^a": true},
    "additionalProperties": {"type": "object", "required": ["a"],
                             "properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}}}})"),
                                    small_vocabulary());
  EXPECT_TRUE(accepts(pattern_only, R"({"ab":{"c":0}})"));
  EXPECT_TRUE(accepts(pattern_only, R"({"ab":1,"ac":2})"));
  EXPECT_FALSE(accepts(pattern_only, R"({"b":{}})"));
  // Keys of one pattern go round, others end.
  const auto recursive = compile(of_schema(R"({
    "type": "object", "minProperties": 1, "patternProperties": {"^a": {"$ref": "#"}},
    "additionalProperties": {"type": "null"}})"),
                                 small_vocabulary());
  EXPECT_TRUE(accepts(recursive, R"({"a":{"ab":{"b":null}}})"));
  EXPECT_FALSE(accepts(recursive, R"({"a":{}})"));
  // As deep as answers may be, only keys whose values end there.
  const auto nested = [](int n_levels, std::string_view innermost) {
    std::string text;
    for (int i = 1; i < n_levels; ++i) text += R"({"a":)";
    return text + std::string(innermost) + std::string(static_cast<std::size_t>(n_levels - 1), '}');
  };
  EXPECT_TRUE(accepts(recursive, nested(64, R"({"b":null})")));
  EXPECT_FALSE(accepts(recursive, nested(64, R"({"a":{"b":null}})")));
  // The few keys of a pattern come once each.
  const auto few = compile(of_schema(R"({
    "type": "object", "patternProperties": {"^(ab){1,2}$": {"type": "integer"}},
    "additionalProperties": {"type": "null"}})"),
                           small_vocabulary());
  EXPECT_TRUE(accepts(few, R"({"abab":2,"c":null,"ab":1})"));
  EXPECT_FALSE(accepts(few, R"({"ab":1,"ab":1})"));
}

TEST(Grammar, StringsAreValidUtf8AndWholeSurrogatePairs) {
  const auto grammar =
      compile(of_schema(R"({"type": "string", "maxLength": 1})"), small_vocabulary());
  EXPECT_TRUE(accepts(grammar, "\"\xF0\x9F\x98\x80\""));
  EXPECT_TRUE(accepts(grammar, R"("\uD83D\uDE00")"));
  EXPECT_FALSE(accepts(grammar, R"("\uD83D")"));
  EXPECT_FALSE(accepts(grammar, R"("\uDE00")"));
  EXPECT_FALSE(accepts(grammar, "\"\xC0\xAF\""));
  EXPECT_FALSE(accepts(grammar, "\"\xED\xA0\x80\""));
  EXPECT_FALSE(accepts(grammar, "\"\xF4\x90\x80\x80\""));
  EXPECT_FALSE(accepts(grammar, "\"\n\""));
  // What is taken can go on: the second half of a pair begins nothing.
  std::vector<std::uint32_t> mask((small_vocabulary()->n_tokens() + 31) / 32);
  for (const char* text : {"\"\\ud", "\"\\udb", "\"\\udbf", "\"\\udc", "\"\\ude1", "\"\\udfff",
                           "\"\\ud8", "\"\\ud800", "\"\\ud800\\ud", "\"\\ud800\\udc"}) {
    Matcher matcher(grammar, kEnds);
    const std::string_view bytes(text);
    const bool is_second =
        bytes.find("udc") == 2 || bytes.find("ude") == 2 || bytes.find("udf") == 2;
    ASSERT_EQ(matcher.accept_bytes(bytes), !is_second) << text;
    if (is_second) continue;
    matcher.fill_mask(mask);
    EXPECT_TRUE(std::ranges::any_of(mask, [](std::uint32_t word) { return word != 0; })) << text;
  }
}

TEST(Grammar, RegularExpressionsMatchWhole) {
  struct Row {
    const char* pattern;
    std::vector<std::string> good;
    std::vector<std::string> bad;
  };
  const std::vector<Row> rows = {
      {"a|bc", {"a", "bc"}, {"", "b", "abc", "ac"}},
      {"^a+$|^$", {"", "a", "aaa"}, {"b", "ab"}},
      {"[^\\d\\s]{2,3}", {"ab", "\xC3\xA9-x"}, {"a", "a1", "a b", "abcd"}},
      {"(?:a(?<n>b)?){2}", {"aa", "aba", "abab"}, {"a", "bb", "aaa"}},
      {"\\x41\\u00e9\\.[-a\\]]", {"A\xC3\xA9.-", "A\xC3\xA9.]"}, {"A\xC3\xA9x-"}},
      {"x{,2}", {"x{,2}"}, {"x", "xx"}},
      {"a*?b", {"b", "aab"}, {"aa"}},
      {".", {"x", "\xF0\x9F\x98\x80"}, {"\n", "", "\x80"}},
  };
  for (const Row& row : rows) {
    const auto grammar =
        compile({.kind = Constraint::Kind::regex, .text = row.pattern}, small_vocabulary());
    for (const std::string& text : row.good)
      EXPECT_TRUE(accepts(grammar, text)) << row.pattern << " " << text;
    for (const std::string& text : row.bad)
      EXPECT_FALSE(accepts(grammar, text)) << row.pattern << " " << text;
  }
}

TEST(Grammar, WhatIsNotSupportedIsNamedWithItsPlace) {
  EXPECT_NE(
      error_of(of_schema(R"({"properties": {"a/b": {"not": {}}}})")).find("#/properties/a~1b/not"),
      std::string::npos);
  EXPECT_NE(error_of(of_schema(R"({"items": {"uniqueItems": true}})")).find("#/items/uniqueItems"),
            std::string::npos);
  EXPECT_NE(error_of(of_schema(R"({"oneOf": [{"type": "number"}, {"minimum": 2}]})")).find("oneOf"),
            std::string::npos);
  for (const char* pattern : {"(?=a)b", "(a)\\1", "\\bword", "\\p{L}", "(?i)a", "a++",
                              "[[:alpha:]]", "a**", "(", ")", "[a", "a{3,1}", "[b-a]", "\\"})
    EXPECT_NE(error_of({.kind = Constraint::Kind::regex, .text = pattern}), "") << pattern;
  EXPECT_EQ(error_of(of_schema(R"({"oneOf": [
      {"properties": {"k": {"const": "x"}}, "required": ["k"], "type": "object"},
      {"properties": {"k": {"const": "y"}}, "required": ["k"], "type": "object"}, {"type": "null"}]})")),
            "");
}

TEST(Grammar, HostileConstraintsEndAsErrors) {
  std::string doubling = R"({"$defs": {"d0": {"type": "null"})";
  for (int i = 1; i < 40; ++i)
    doubling += fmt::format(
        R"(, "d{0}": {{"anyOf": [{{"allOf": [{{"$ref": "#/$defs/d{1}"}}, {{"minLength": {0}}}]}},
            {{"allOf": [{{"$ref": "#/$defs/d{1}"}}, {{"maxLength": {0}}}]}}]}})",
        i, i - 1);
  doubling += R"(}, "$ref": "#/$defs/d39"})";
  std::string wide = R"({"allOf": [)";
  for (int i = 0; i < 3000; ++i)
    wide += fmt::format("{}{{\"anyOf\": [{{}}, {{\"minimum\": {}}}]}}", i ? "," : "", i);
  const std::vector<Constraint> hostile = {
      of_schema(doubling),
      of_schema(wide + "]}"),
      of_schema(std::string(100'000, '[')),
      of_schema(R"({"$ref": "#/$defs/nothing"})"),
      of_schema(R"({"$ref": "http://example.com/schema"})"),
      of_schema(R"({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}})"),
      of_schema(R"({"type": "array", "minItems": 1, "items": {"$ref": "#"}})"),
      of_schema(R"({"enum": []})"),
      of_schema(R"({"type": "string", "minLength": 3, "maxLength": 2})"),
      of_schema(R"({"type": "integer", "multipleOf": 999999937, "minimum": 1})"),
      of_schema(R"({"type": "string", "pattern": "^a{1,1000000000}$"})"),
      of_schema(R"({"type": "string", "pattern": "(a|b)*a(a|b){30}"})"),
      of_schema(R"({"type": "string", "pattern": "^a", "maxLength": 100000000})"),
      of_schema("\xFF"),
      of_schema("{\"pattern\": 3}"),
      {.kind = Constraint::Kind::regex, .text = "((a{0}){1000000000}){1000000000}"},
      {.kind = Constraint::Kind::regex, .text = std::string(5000, '(')},
      {.kind = Constraint::Kind::regex, .text = "(((a?){200}){200}){200}"},
      {.kind = Constraint::Kind::choice},
      {.kind = Constraint::Kind::none},
  };
  for (std::size_t i = 0; i < hostile.size(); ++i) EXPECT_NE(error_of(hostile[i]), "") << i;
  // References that lead round say nothing.
  EXPECT_EQ(error_of(of_schema(R"({"anyOf": [{"$ref": "#"}, {"$ref": "#"}], "enum": [1]})")), "");
}

TEST(Grammar, DrawnConstraintsEndAsErrorsOrGrammars) {
  const std::vector<std::string> pieces = {"{",
                                           "}",
                                           "[",
                                           "]",
                                           "\"type\":",
                                           "\"string\"",
                                           "\"anyOf\":",
                                           "\"$ref\":\"#\"",
                                           ",",
                                           "1",
                                           "-2.5e9",
                                           "\"properties\":{\"a\":",
                                           "\"pattern\":\"(a|b)*{3,}$\"",
                                           "true",
                                           "\"enum\":[1,{\"a\":[]}]",
                                           "null",
                                           "\"items\":",
                                           "\"allOf\":[",
                                           "\"maxLength\":",
                                           "\xC3",
                                           "(",
                                           ")",
                                           "*",
                                           "{2,9}",
                                           "|",
                                           "\\",
                                           "[^a-",
                                           "\\u12"};
  const auto seed =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  const auto vocabulary = small_vocabulary();
  int n_compiled = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string text = i % 2 == 0 ? "{" : "";
    for (std::size_t n = rng() % 12; n > 0; --n) text += pieces[rng() % pieces.size()];
    if (i % 2 == 0) text += "}";
    Constraint constraint = of_schema(text);
    if (i % 2 == 1) constraint.kind = Constraint::Kind::regex;
    try {
      Matcher matcher(compile(constraint, vocabulary), kEnds);
      std::vector<std::uint32_t> words((vocabulary->n_tokens() + 31) / 32);
      matcher.fill_mask(words);
      ++n_compiled;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(n_compiled, 10);
}

TEST(Vocabulary, HasTheBytesOfTheDemoModelsTokens) {
  const auto tokenizer =
      tokenizer::Tokenizer::load(std::filesystem::path(NEREID_SOURCE_DIR) / "models/demo");
  const auto vocabulary = Vocabulary::of(tokenizer);
  const std::string text = "def f(x):\n\treturn \"\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80\"  # 12";
  std::string bytes;
  for (const TokenId id : tokenizer.encode(text, false)) bytes += vocabulary->text(id);
  EXPECT_EQ(bytes, text);
  EXPECT_EQ(vocabulary->n_tokens(), static_cast<std::size_t>(tokenizer.vocab_size()));
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id)
    EXPECT_TRUE(!tokenizer.is_special(id) || vocabulary->text(id).empty()) << id;
}

}  // namespace
}  // namespace nereid::grammar
