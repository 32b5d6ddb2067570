// Small tokenizers whose ids are worked out by hand, streaming, and the work that long words cost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "null/tokenizer_samples.h"
#include "tokenizer/bpe.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_json.h"
#include "tokenizer/utf8.h"

namespace nereid::tokenizer {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Ids = std::vector<std::int32_t>;

class ByteLevelTest : public testing::Test {
 protected:
  Ids plain(std::string_view text) const { return tokenizer_.encode(text, false); }
  const Tokenizer tokenizer_ = Tokenizer::parse(kByteLevelSample, "sample");
};

TEST_F(ByteLevelTest, MergesBestRankFirst) {
  EXPECT_THAT(plain("abc"), ElementsAre(5));      // a b c -> ab c -> abc
  EXPECT_THAT(plain(" abc"), ElementsAre(3, 5));  // "ab c" (rank 1) comes before "Ġ ab" (rank 3)
  EXPECT_THAT(plain(" ab"), ElementsAre(9));      // Ġ a b -> Ġ ab -> Ġab
  EXPECT_THAT(plain(" a"), ElementsAre(6));
  EXPECT_THAT(plain("aab"), ElementsAre(0, 4));   // "a b" (rank 0) before "a a" (rank 4)
  EXPECT_THAT(plain("aaa"), ElementsAre(10, 0));  // of equal ranks the leftmost
  EXPECT_THAT(plain("ab abc"), ElementsAre(4, 3, 5));
}

TEST_F(ByteLevelTest, BytesAndCharactersThatAreNotThere) {
  EXPECT_THAT(plain("é"), ElementsAre(7, 8));  // C3 A9
  EXPECT_THAT(plain("azb"),
              ElementsAre(4));  // no token and no unk_token: z is gone before the merges
  EXPECT_THAT(plain(""), IsEmpty());
  EXPECT_EQ(plain("a\xC3"), plain("a\uFFFD"));
}

TEST_F(ByteLevelTest, AddedTokens) {
  EXPECT_THAT(plain("ab<|end|>c"), ElementsAre(4, 11, 2));
  EXPECT_THAT(plain("a cab b"), ElementsAre(0, 12, 1));  // takes the spaces on both sides
  EXPECT_THAT(plain("acab"), ElementsAre(0, 2, 4));      // not a word of its own
  EXPECT_THAT(plain("cab"), ElementsAre(12));
  EXPECT_THAT(tokenizer_.encode("a"), ElementsAre(11, 0));
  EXPECT_THAT(tokenizer_.encode(""), ElementsAre(11));
}

TEST_F(ByteLevelTest, LooksUp) {
  EXPECT_EQ(tokenizer_.token_id("<|end|>"), 11);
  EXPECT_EQ(tokenizer_.token_id("Ġab"), 9);
  EXPECT_EQ(tokenizer_.token_id("no such"), std::nullopt);
  EXPECT_EQ(tokenizer_.token_text(9), "Ġab");
  EXPECT_EQ(tokenizer_.vocab_size(), 13);
  EXPECT_TRUE(tokenizer_.is_special(11));
  EXPECT_FALSE(tokenizer_.is_special(12));
  EXPECT_FALSE(tokenizer_.is_special(-1));
}

TEST_F(ByteLevelTest, Decodes) {
  EXPECT_EQ(tokenizer_.decode(Ids{11, 4, 9, 7, 8}), "ab abé");
  EXPECT_EQ(tokenizer_.decode(Ids{11, 4}, false), "<|end|>ab");
  EXPECT_EQ(tokenizer_.decode(Ids{0, 99, -5, 1}), "ab");  // ids of no token
  EXPECT_EQ(tokenizer_.decode(Ids{7, 0}), "\uFFFDa");
}

TEST_F(ByteLevelTest, StreamsWholeCharacters) {
  StreamDecoder decoder(tokenizer_);
  EXPECT_EQ(decoder.push(9), " ab");
  EXPECT_EQ(decoder.push(7), "");
  EXPECT_EQ(decoder.push(8), "é");
  EXPECT_EQ(decoder.push(7), "");
  EXPECT_EQ(decoder.push(0), "\uFFFDa");
  EXPECT_EQ(decoder.push(11), "");
  EXPECT_EQ(decoder.push(7), "");
  EXPECT_EQ(decoder.flush(), "\uFFFD");
  EXPECT_EQ(decoder.flush(), "");
  EXPECT_EQ(decoder.push(0), "a");
}

class SentencePieceTest : public testing::Test {
 protected:
  Ids plain(std::string_view text) const { return tokenizer_.encode(text, false); }
  const Tokenizer tokenizer_ = Tokenizer::parse(kSentencePieceSample, "sample");
};

TEST_F(SentencePieceTest, Encodes) {
  EXPECT_THAT(plain("a b"), ElementsAre(9, 6, 8));  // ▁a ▁ b
  EXPECT_THAT(plain("ab"), ElementsAre(9, 8));      // "▁ a" (rank 0) before "a b" (rank 1)
  EXPECT_THAT(plain("bab"), ElementsAre(6, 8, 10));
  EXPECT_THAT(tokenizer_.encode("a"), ElementsAre(1, 9));
  EXPECT_THAT(plain(""), IsEmpty());
  EXPECT_THAT(plain("a</s>b"), ElementsAre(9, 2, 6, 8));  // each part gets the prefix
}

TEST_F(SentencePieceTest, BytesAndUnknownCharacters) {
  EXPECT_THAT(plain("€"), ElementsAre(6, 3, 4, 5));
  EXPECT_THAT(plain("é"), ElementsAre(6, 0));       // <0xC3> is not there
  EXPECT_THAT(plain("ééb"), ElementsAre(6, 0, 8));  // fused
}

TEST_F(SentencePieceTest, Decodes) {
  EXPECT_EQ(tokenizer_.decode(Ids{1, 9, 6, 8, 2}), "a b");
  EXPECT_EQ(tokenizer_.decode(Ids{6, 3, 4, 5}), "€");
  EXPECT_EQ(tokenizer_.decode(Ids{6, 6, 7}), " a");
  EXPECT_EQ(tokenizer_.decode(Ids{3, 4, 7}), "\uFFFD\uFFFDa");
  // One bad byte spoils the run, as with Hugging Face.
  EXPECT_EQ(tokenizer_.decode(Ids{3, 4, 5, 3}), "\uFFFD\uFFFD\uFFFD\uFFFD");
}

TEST_F(SentencePieceTest, StreamsWhatIsSettled) {
  StreamDecoder decoder(tokenizer_);
  EXPECT_EQ(decoder.push(9), "a");
  EXPECT_EQ(decoder.push(9), " a");
  EXPECT_EQ(decoder.push(3), "");
  EXPECT_EQ(decoder.push(4), "");
  EXPECT_EQ(decoder.push(5), "");  // a further byte could still spoil it
  EXPECT_EQ(decoder.push(8), "€b");
  EXPECT_EQ(decoder.push(3), "");
  EXPECT_EQ(decoder.flush(), "\uFFFD");
}

// What transformers 4.57 gives for each class on files with these fields; 5.24 where a class is
// new.
TEST(TokenizerConfig, ClassesThatReadItSayWhichTokensAreAdded) {
  const auto encode = [](const char* name, Json config) {
    config["tokenizer_class"] = name;
    return Tokenizer::parse(kSentencePieceSample, "sample", config).encode("a");
  };
  for (const char* name : {"LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizerFast"}) {
    EXPECT_THAT(encode(name, Json::object()), ElementsAre(1, 9));
    EXPECT_THAT(encode(name, {{"add_bos_token", true}, {"bos_token", "<s>"}}), ElementsAre(1, 9));
    EXPECT_THAT(encode(name, {{"add_bos_token", false}, {"bos_token", "<s>"}}), ElementsAre(9));
    EXPECT_THAT(encode(name, {{"add_eos_token", true}, {"eos_token", {{"content", "</s>"}}}}),
                ElementsAre(1, 9, 2));
    EXPECT_THAT(encode(name, {{"add_bos_token", false}, {"add_eos_token", true}}),
                ElementsAre(9, 2));  // the class knows its tokens
    EXPECT_THROW(encode(name, {{"add_bos_token", true}, {"bos_token", nullptr}}), Error);
    EXPECT_THROW(encode(name, {{"add_eos_token", true}, {"eos_token", "<none>"}}), Error);
  }
  // The template of tokenizer.json counts, whatever these fields say.
  for (const char* name : {"PreTrainedTokenizerFast", "TokenizersBackend", "GPT2Tokenizer",
                           "GPT2TokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast"})
    for (const bool wanted : {false, true})
      EXPECT_THAT(encode(name, {{"add_bos_token", wanted},
                                {"add_eos_token", wanted},
                                {"bos_token", "<s>"},
                                {"eos_token", "</s>"}}),
                  ElementsAre(1, 9))
          << name;
  const Json unnamed = {{"add_bos_token", false}, {"bos_token", "<s>"}};
  EXPECT_THAT(Tokenizer::parse(kSentencePieceSample, "sample", unnamed).encode("a"),
              ElementsAre(1, 9));
}

TEST_F(SentencePieceTest, AStartThatThePromptWritesIsThereOnce) {
  EXPECT_THAT(tokenizer_.encode("<s>a"), ElementsAre(1, 1, 9));  // as Hugging Face does
  EXPECT_THAT(tokenizer_.encode_prompt("<s>a"), ElementsAre(1, 9));
  EXPECT_EQ(tokenizer_.written_start("<s>a"), "<s>");
  EXPECT_THAT(tokenizer_.encode_prompt("<s>"), ElementsAre(1));
  EXPECT_THAT(tokenizer_.encode_prompt("<s><s>a"), ElementsAre(1, 1, 9));
  for (const char* text : {"", "a", "a<s>", "</s>a", "<s"}) {
    EXPECT_EQ(tokenizer_.encode_prompt(text), tokenizer_.encode(text)) << text;
    EXPECT_EQ(tokenizer_.written_start(text), "") << text;
  }
  const auto without =
      Tokenizer::parse(kSentencePieceSample, "sample",
                       {{"tokenizer_class", "LlamaTokenizer"}, {"add_bos_token", false}});
  EXPECT_THAT(without.encode_prompt("<s>a"), ElementsAre(1, 9));
  EXPECT_EQ(without.written_start("<s>a"), "");
}

TEST(Streaming, EverySequenceGivesWhatDecodeGives) {
  std::mt19937 random(7);
  for (const auto& sample : {kByteLevelSample, kSentencePieceSample}) {
    const auto tokenizer = Tokenizer::parse(sample, "sample");
    for (int round = 0; round < 500; ++round) {
      Ids ids(random() % 20);
      for (auto& id : ids) id = static_cast<std::int32_t>(random() % 14);
      StreamDecoder decoder(tokenizer, false);
      std::string text;
      Ids seen;
      for (const auto id : ids) {
        const std::string part(decoder.push(id));
        EXPECT_TRUE(is_valid_utf8(part));
        text += part;
        seen.push_back(id);
        EXPECT_EQ(text + std::string(decoder.pending()), tokenizer.decode(seen, false));
      }
      EXPECT_EQ(text + std::string(decoder.flush()), tokenizer.decode(ids, false));
    }
  }
}

// A vocabulary of the letters and of "a" doubled again and again.
std::string doubling_tokenizer() {
  Json vocab;
  Json merges = Json::array();
  for (char letter = 'a'; letter <= 'z'; ++letter) vocab[std::string(1, letter)] = letter - 'a';
  for (std::string half = "a"; half.size() < 64; half += half) {
    vocab[half + half] = vocab.size();
    merges.push_back({half, half});
  }
  for (const char* pair : {"xy", "yz", "zx", "qr"}) {
    vocab[pair] = vocab.size();
    merges.push_back({std::string(1, pair[0]), std::string(1, pair[1])});
  }
  return Json{{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}}.dump();
}

TEST(BpeWork, GrowsWithTheWordAndNotItsSquare) {
  const TokenizerJson file = parse_tokenizer_json(doubling_tokenizer(), "doubling");
  const Bpe bpe(file.root["model"], file.merges, file.vocab, "doubling");
  std::mt19937 random(1);
  constexpr std::size_t kLetters = 1 << 17;  // quadratic work would be 10^10 steps
  std::string any;
  for (std::size_t i = 0; i < kLetters; ++i) any.push_back(static_cast<char>('a' + random() % 26));
  Bpe::Scratch scratch;
  for (const std::string& word : {std::string(kLetters, 'a'), any}) {
    Ids ids;
    // Each letter is offered once at the start, each merge offers two more.
    EXPECT_LE(bpe.encode_word(word, scratch, ids), 3 * word.size());
    std::string text;
    for (const auto id : ids) text += file.vocab.text(id);
    EXPECT_EQ(text, word);
  }
  Ids ids;
  bpe.encode_word(std::string(kLetters, 'a'), scratch, ids);
  EXPECT_EQ(ids.size(), kLetters / 64);
}

}  // namespace
}  // namespace nereid::tokenizer
