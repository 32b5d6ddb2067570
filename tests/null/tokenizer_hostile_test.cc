// Files that are wrong, cut or made to harm: an Error that says where, never a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "null/tokenizer_samples.h"
#include "tokenizer/tokenizer.h"

namespace nereid::tokenizer {
namespace {

using testing::HasSubstr;

std::string error_of(const std::string& text) {
  try {
    Tokenizer::parse(text, "file.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

struct Change {
  std::string expected;  // a part of the message
  std::function<void(Json&)> make;
};

TEST(HostileTokenizer, EachFaultIsNamed) {
  const Json base = Json::parse(kByteLevelSample);
  const std::vector<Change> changes = {
      {"\"model\" is missing", [](Json& j) { j.erase("model"); }},
      {"\"model\" is array", [](Json& j) { j["model"] = Json::array(); }},
      {"model type \"WordPiece\"", [](Json& j) { j["model"]["type"] = "WordPiece"; }},
      {"model type \"Unigram\"",
       [](Json& j) {
         j["model"] = Json{{"type", "Unigram"}, {"vocab", Json::parse(R"([["a", -1.5]])")}};
       }},
      {"vocab is missing", [](Json& j) { j["model"].erase("vocab"); }},
      {"merges is missing", [](Json& j) { j["model"].erase("merges"); }},
      {"has the id -1", [](Json& j) { j["model"]["vocab"]["a"] = -1; }},
      {"has the id 2147483648", [](Json& j) { j["model"]["vocab"]["a"] = 2147483648U; }},
      {"expected 0 to", [](Json& j) { j["model"]["vocab"]["a"] = 18446744073709551615U; }},
      {"expected a whole number", [](Json& j) { j["model"]["vocab"]["a"] = 0.5; }},
      {"expected a whole number", [](Json& j) { j["model"]["vocab"]["a"] = "0"; }},
      {"is not a number", [](Json& j) { j["model"]["vocab"]["a"] = Json::array({1}); }},
      {"have the same id 1", [](Json& j) { j["model"]["vocab"]["a"] = 1; }},
      {"merge 0 needs the token \"q\"", [](Json& j) { j["model"]["merges"] = {"q a"}; }},
      {"merge 0 needs the token \"ba\"", [](Json& j) { j["model"]["merges"] = {"b a"}; }},
      {"merge 0 is neither", [](Json& j) { j["model"]["merges"] = {"a b c"}; }},
      {"merge 0 is neither", [](Json& j) { j["model"]["merges"] = Json::parse(R"([["a"]])"); }},
      {"merge 0 is neither", [](Json& j) { j["model"]["merges"] = Json::parse("[[1, 2]]"); }},
      {"merge 0 is neither", [](Json& j) { j["model"]["merges"] = {7}; }},
      {"dropout is 0.1", [](Json& j) { j["model"]["dropout"] = 0.1; }},
      {"unk_token \"q\"", [](Json& j) { j["model"]["unk_token"] = "q"; }},
      {"\"ignore_merges\" has the wrong type",
       [](Json& j) { j["model"]["ignore_merges"] = "yes"; }},
      {"normalizer: type \"Precompiled\"",
       [](Json& j) {
         j["normalizer"] = {{"type", "Precompiled"}};
       }},
      {"normalizer: field \"type\" is missing", [](Json& j) { j["normalizer"] = Json::object(); }},
      {"normalizer: expected a JSON object", [](Json& j) { j["normalizer"] = "NFC"; }},
      {"pre_tokenizer Sequence: type \"Magic\"",
       [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["type"] = "Magic"; }},
      {"does not compile",
       [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "a**{"; }},
      {"an empty string",
       [](Json& j) {
         j["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"String", ""}};
       }},
      {"unknown behavior \"Sideways\"",
       [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Sideways"; }},
      {"decoder: type \"CTC\"", [](Json& j) { j["decoder"]["type"] = "CTC"; }},
      {"post_processor: type \"RobertaProcessing\"",
       [](Json& j) { j["post_processor"]["type"] = "RobertaProcessing"; }},
      {"has the id 99",
       [](Json& j) { j["post_processor"]["special_tokens"]["<|end|>"]["ids"] = {99}; }},
      {"\"<|end|>\" is missing",
       [](Json& j) { j["post_processor"]["special_tokens"] = Json::object(); }},
      {"sequence A 0 times", [](Json& j) { j["post_processor"]["single"].erase(1); }},
      {"added_tokens[0]: the id of \"<|end|>\" is -3",
       [](Json& j) { j["added_tokens"][0]["id"] = -3; }},
      {"is 4294967296", [](Json& j) { j["added_tokens"][0]["id"] = 4294967296U; }},
      {"of the model's token \"a\"", [](Json& j) { j["added_tokens"][0]["id"] = 0; }},
      {"the id 12 of \"cab\" is there twice", [](Json& j) { j["added_tokens"][0]["id"] = 12; }},
      {"the token \"cab\" is there twice",
       [](Json& j) { j["added_tokens"][0]["content"] = "cab"; }},
      {"\"abc\" has the id 11, but 5", [](Json& j) { j["added_tokens"][0]["content"] = "abc"; }},
      {"\"content\" has the wrong type", [](Json& j) { j["added_tokens"][0]["content"] = 5; }},
      {"added_tokens is object", [](Json& j) { j["added_tokens"] = Json::object(); }},
  };
  ASSERT_EQ(error_of(base.dump()), "no error");
  for (const Change& change : changes) {
    Json changed = base;
    change.make(changed);
    const std::string message = error_of(changed.dump());
    EXPECT_THAT(message, HasSubstr(change.expected));
    EXPECT_THAT(message, HasSubstr("file.json"));
  }
}

TEST(HostileTokenizer, NotATokenizerAtAll) {
  EXPECT_THAT(error_of(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of("7"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("\"model\" is missing"));
  EXPECT_THAT(error_of(std::string(1'000'000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(error_of(R"({"model": {"vocab": )" + std::string(1'000'000, '[')),
              HasSubstr("nested deeper"));
  EXPECT_THAT(error_of(R"({"model": {"vocab": {}, "vocab": {}}})"), HasSubstr("twice"));
  EXPECT_THAT(error_of("{\"model\": {\"vocab\": {\"\xff\": 0}}}"), HasSubstr("not valid JSON"));
  for (std::size_t size = 0; size < kByteLevelSample.size(); size += 7)
    EXPECT_THAT(error_of(kByteLevelSample.substr(0, size)), HasSubstr("file.json"));
}

TEST(HostileTokenizer, MissingFile) {
  try {
    Tokenizer::load(std::filesystem::path(NEREID_SOURCE_DIR) / "tests");
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json not found in"));
    EXPECT_THAT(error.what(), HasSubstr("Hugging Face snapshot"));
  }
}

// Flips, drops, repeats and swaps bytes; what still loads must encode and decode. A fixed seed:
// failures repeat.
TEST(HostileTokenizer, MutationsNeverCrash) {
  // Two seconds of processor time, not of the clock: a busy machine must not test less.
  const std::clock_t deadline = std::clock() + 2 * CLOCKS_PER_SEC;
  std::mt19937 random(20240607);
  const std::vector<std::string> fragments = {
      "-1",   "1e99",    "2147483647", "null",     "{}", "[]", "\"\"",
      "true", "\\u0000", "\"Regex\"",  "\"Fuse\"", "▁",  "(",  "*"};
  int n_loaded = 0;
  int n_rejected = 0;
  for (int round = 0; round < 4000 && std::clock() < deadline; ++round) {
    std::string text = round % 2 == 0 ? kByteLevelSample : kSentencePieceSample;
    const int n_changes = 1 + static_cast<int>(random() % 4);
    for (int change = 0; change < n_changes; ++change) {
      const std::size_t at = random() % text.size();
      const std::size_t size = random() % 12;
      switch (random() % 5) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, size + 1);
          break;
        case 2:
          text.insert(at, text.substr(random() % text.size(), size));
          break;
        case 3:
          text.replace(at, size, fragments[random() % fragments.size()]);
          break;
        default:
          text[at] = static_cast<char>('0' + random() % 10);
      }
      if (text.empty()) text = "{";
    }
    try {
      const auto tokenizer = Tokenizer::parse(text, "mutation");
      ++n_loaded;
      const auto ids = tokenizer.encode("ab abc cab 12 <|end|>é€ \xff</s> a");
      for (const auto id : ids) ASSERT_LT(id, tokenizer.vocab_size());
      StreamDecoder decoder(tokenizer);
      std::string streamed;
      for (const auto id : ids) streamed += decoder.push(id);
      ASSERT_EQ(streamed + std::string(decoder.flush()), tokenizer.decode(ids));
    } catch (const Error&) {
      ++n_rejected;
    }
  }
  EXPECT_GT(n_loaded, 10);
  EXPECT_GT(n_rejected, 10);
}

}  // namespace
}  // namespace nereid::tokenizer
