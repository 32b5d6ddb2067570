// What Hugging Face's tokenizers gives, string by string: for the demo model and for small
// tokenizers of every kind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace nereid::tokenizer {
namespace {

using Ids = std::vector<std::int32_t>;
const std::filesystem::path kSource = NEREID_SOURCE_DIR;

std::string streamed(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const auto id : ids) text += decoder.push(id);
  return text + std::string(decoder.flush());
}

TEST(TokenizerGolden, DemoModel) {
  const auto tokenizer = Tokenizer::load(kSource / "models/demo");
  const Json goldens = read_json_file(kSource / "tests/golden/demo/tokenizer_goldens.json");
  ASSERT_EQ(goldens.size(), 22U);
  for (const Json& golden : goldens) {
    const auto text = golden["text"].get<std::string>();
    const auto ids = golden["ids"].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text, false), ids) << text;
    EXPECT_EQ(tokenizer.decode(ids, false), golden["decoded"].get<std::string>()) << text;
    EXPECT_EQ(streamed(tokenizer, ids, false), golden["decoded"].get<std::string>()) << text;
  }
}

class SmallTokenizer : public testing::TestWithParam<const char*> {};

TEST_P(SmallTokenizer, AgreesWithHuggingFace) {
  const auto path = kSource / "tests/golden/tokenizers" / (std::string(GetParam()) + ".json");
  const Json golden = read_json_file(path);
  const auto tokenizer = Tokenizer::parse(golden["tokenizer"].dump(), path.string());
  ASSERT_GE(golden["cases"].size(), 30U);
  for (const Json& row : golden["cases"]) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<Ids>();
    // A field that would repeat another is left out.
    const auto plain_ids = row.value("plain_ids", ids);
    const auto decoded_all = row.value("decoded_all", text);
    const auto decoded = row.value("decoded", decoded_all);
    EXPECT_EQ(tokenizer.encode(text), ids) << row.dump();
    EXPECT_EQ(tokenizer.encode(text, false), plain_ids) << row.dump();
    EXPECT_EQ(tokenizer.decode(ids), decoded) << row.dump();
    EXPECT_EQ(tokenizer.decode(ids, false), decoded_all) << row.dump();
  }
  ASSERT_FALSE(golden["sequences"].empty());
  for (const Json& row : golden["sequences"])
    EXPECT_EQ(streamed(tokenizer, row["ids"].get<Ids>(), false), row["decoded"].get<std::string>())
        << row.dump();
}

INSTANTIATE_TEST_SUITE_P(Kinds, SmallTokenizer,
                         testing::Values("gemma", "phi3", "llama3", "qwen2", "gpt2", "starcoder",
                                         "possessive", "o200k", "deepseek", "llama2", "mistral",
                                         "metaspace_always", "metaspace_first", "metaspace_never",
                                         "whitespace_lower", "punctuation_nfkc", "digits_nfkd"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace nereid::tokenizer
