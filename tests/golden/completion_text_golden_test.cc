// The text of a completion, for tokenizers of every kind: what prompt and tokens decode to together
// less what the prompt decodes to, however it is streamed, and ended by stop strings at the token
// that completes them. The reference is Tokenizer::decode, which agrees with Hugging Face's.
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/completion_text.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace nereid::engine {
namespace {

using Ids = std::vector<std::int32_t>;
using Stops = std::vector<std::string>;
using tokenizer::Tokenizer;
const std::filesystem::path kSource = NEREID_SOURCE_DIR;

struct Said {
  std::string text;
  std::size_t n_tokens = 0;
  bool is_stopped = false;
};

Said say(const Tokenizer& tokenizer, const Ids& prompt, const Ids& ids, const Stops& stops) {
  CompletionText text(tokenizer, {.prompt_ids = prompt, .stop = stops});
  Said said;
  for (const auto id : ids) {
    ++said.n_tokens;
    said.is_stopped = text.push(id, said.text);
    if (said.is_stopped) break;
  }
  if (text.finish(said.text)) said.is_stopped = true;
  return said;
}

// None where the tokens change characters of the prompt: a byte that completes one.
std::optional<std::string> without_prompt(const Tokenizer& tokenizer, const Ids& prompt,
                                          const Ids& ids, std::size_t n_ids) {
  Ids all = prompt;
  all.insert(all.end(), ids.begin(), ids.begin() + std::ptrdiff_t(n_ids));
  const std::string before = tokenizer.decode(prompt);
  std::string text = tokenizer.decode(all);
  if (!text.starts_with(before)) return std::nullopt;
  return text.substr(before.size());
}

// Where a byte at a time first completes a stop string, the longest of those.
std::optional<std::string> before_stop(const std::string& text, const Stops& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const auto& stop : stops)
      if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    if (longest > 0) return text.substr(0, end - longest);
  }
  return std::nullopt;
}

std::optional<Said> expected(const Tokenizer& tokenizer, const Ids& prompt, const Ids& ids,
                             const Stops& stops) {
  Said said;
  for (std::size_t n = 1; n <= ids.size(); ++n) {
    const auto text = without_prompt(tokenizer, prompt, ids, n);
    if (!text) return std::nullopt;
    said = {*text, n, false};
    if (const auto before = before_stop(*text, stops)) return Said{*before, n, true};
  }
  return said;
}

// Up to `n` whole characters from about byte `at` on.
std::string characters_of(const std::string& text, std::size_t at, std::size_t n) {
  while ((text[at] & 0xC0) == 0x80) --at;
  std::size_t end = at;
  for (; n > 0 && end < text.size(); --n) end += tokenizer::utf8_at(text, end).size_bytes;
  return text.substr(at, end - at);
}

Tokenizer small_tokenizer(const std::string& name) {
  const auto path = kSource / "tests/golden/tokenizers" / (name + ".json");
  return Tokenizer::parse(read_json_file(path)["tokenizer"].dump(), path.string());
}

class EveryKind : public testing::TestWithParam<const char*> {};

TEST_P(EveryKind, IsWhatIdsSayAfterTheirPrompt) {
  const Tokenizer tokenizer = small_tokenizer(GetParam());
  std::mt19937 random(7);
  const auto some_ids = [&](std::size_t n_ids) {
    Ids ids(n_ids);
    for (auto& id : ids) id = std::int32_t(random() % std::uint32_t(tokenizer.vocab_size()));
    return ids;
  };
  int n_compared = 0;
  int n_stopped = 0;
  for (int round = 0; round < 600; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    const Ids prompt = some_ids(random() % 5);
    Ids ids = some_ids(1 + random() % 10);
    // Random ids seldom write a character in bytes.
    if (random() % 3 == 0) {
      const Ids written = tokenizer.encode(random() % 2 == 0 ? "\n☃🙂" : " a\n\nb ☃", false);
      ids.insert(ids.begin() + std::ptrdiff_t(random() % ids.size()), written.begin(),
                 written.end());
    }
    Stops stops;
    if (const auto whole = without_prompt(tokenizer, prompt, ids, ids.size());
        whole && !whole->empty() && random() % 2 == 0) {
      const auto stop = characters_of(*whole, random() % whole->size(), 1 + random() % 4);
      // What a character is that has not all its bytes changes with the next token.
      if (stop.find(tokenizer::kReplacement) == std::string::npos) stops.push_back(stop);
    }
    const auto want = expected(tokenizer, prompt, ids, stops);
    if (!want) continue;
    ++n_compared;
    n_stopped += want->is_stopped;
    SCOPED_TRACE(testing::Message()
                 << "prompt " << testing::PrintToString(prompt) << " ids "
                 << testing::PrintToString(ids) << " stops " << testing::PrintToString(stops));
    const Said said = say(tokenizer, prompt, ids, stops);
    ASSERT_EQ(said.text, want->text);
    ASSERT_EQ(said.n_tokens, want->n_tokens);
    ASSERT_EQ(said.is_stopped, want->is_stopped);
  }
  EXPECT_GT(n_compared, 400);
  EXPECT_GT(n_stopped, 100);
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind,
                         testing::Values("llama3", "qwen2", "gpt2", "starcoder", "deepseek",
                                         "llama2", "mistral", "metaspace_always", "metaspace_first",
                                         "metaspace_never", "whitespace_lower", "punctuation_nfkc"),
                         [](const auto& each) { return std::string(each.param); });

// Prompts and answers of one text: the space between them belongs to the answer.
TEST(CompletionText, TheFirstSpaceStays) {
  for (const char* name : {"llama2", "mistral", "metaspace_always", "llama3", "qwen2"}) {
    const Tokenizer tokenizer = small_tokenizer(name);
    const Ids prompt = tokenizer.encode("Hello");
    Ids answer = tokenizer.encode("Hello world", false);
    answer.erase(answer.begin(),
                 answer.begin() + std::ptrdiff_t(tokenizer.encode("Hello", false).size()));
    EXPECT_EQ(say(tokenizer, prompt, answer, {}).text, " world") << name;
    const Said said = say(tokenizer, prompt, answer, {" w"});
    EXPECT_EQ(said.text, "") << name;
    EXPECT_TRUE(said.is_stopped) << name;
  }
}

// The prompt ends inside a character, and its first new token completes that.
TEST(CompletionText, ACharacterThatThePromptBeganIsOfTheAnswer) {
  for (const char* name : {"llama2", "gpt2"}) {
    const Tokenizer tokenizer = small_tokenizer(name);
    const Ids bytes = tokenizer.encode("☃", false);
    ASSERT_GE(bytes.size(), 3U) << name;
    const Ids first(bytes.begin(), bytes.end() - 1);
    EXPECT_EQ(say(tokenizer, first, {bytes.back()}, {}).text, "☃") << name;
    const Ids other = tokenizer.encode("!", false);
    EXPECT_EQ(say(tokenizer, first, other, {}).text,
              *without_prompt(tokenizer, first, other, other.size()))
        << name;
  }
}

// A byte token that may still become part of a character must not hide a stop string.
TEST(CompletionText, AStopStringOfBytesEndsAtItsToken) {
  const Tokenizer tokenizer = small_tokenizer("llama2");
  const auto newline = *tokenizer.token_id("<0x0A>");
  const Said said = say(tokenizer, tokenizer.encode("x"), {newline, newline, newline}, {"\n\n"});
  EXPECT_EQ(said.text, "");
  EXPECT_EQ(said.n_tokens, 2U);
  EXPECT_TRUE(said.is_stopped);
}

TEST(CompletionText, SpecialTokensAreTextWhereAskedTo) {
  for (const char* name : {"llama2", "llama3", "gpt2", "metaspace_first"}) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = small_tokenizer(name);
    const std::int32_t special = *tokenizer.token_id("<|special|>");
    Ids prompt = tokenizer.encode("Hello");
    Ids ids = tokenizer.encode(" one", false);
    ids.push_back(special);
    for (const auto id : tokenizer.encode("two", false)) ids.push_back(id);
    ids.push_back(special);
    Ids all = prompt;
    all.insert(all.end(), ids.begin(), ids.end() - 1);
    const auto with_special = [&](const Ids& some) { return tokenizer.decode(some, false); };
    const std::string whole = with_special(all).substr(with_special(prompt).size());
    ASSERT_NE(whole.find("<|special|>"), std::string::npos);

    // As a whole; and cut before and behind each stop string that is a part of it.
    for (std::size_t begin = 0; begin <= whole.size(); ++begin)
      for (const bool keeps_stop : {false, true}) {
        Request request{.prompt_ids = prompt, .include_stop = keeps_stop};
        request.skip_special_tokens = false;
        const std::string stop = whole.substr(begin, 3);
        if (!stop.empty()) request.stop = {stop};
        CompletionText text(tokenizer, request);
        std::string out;
        bool is_stopped = false;
        for (std::size_t i = 0; i + 1 < ids.size() && !is_stopped; ++i)
          is_stopped = text.push(ids[i], out);
        if (!is_stopped) text.push_end_token(special, out);
        text.finish(out);
        const auto at = stop.empty() ? whole.size() : whole.find(stop);
        EXPECT_EQ(out, whole.substr(0, at + (keeps_stop ? stop.size() : 0))) << stop;
      }
  }
}

TEST(CompletionText, StopStringsNameSpecialTokens) {
  for (const char* name : {"llama2", "llama3", "gpt2", "metaspace_first"}) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = small_tokenizer(name);
    const Ids prompt = tokenizer.encode("Hello");
    const std::int32_t special = *tokenizer.token_id("<|special|>");
    Ids ids = tokenizer.encode("Hello one", false);
    ids.erase(ids.begin(), ids.begin() + std::ptrdiff_t(tokenizer.encode("Hello", false).size()));
    const std::size_t n_before = ids.size();
    ids.push_back(special);
    const Ids after = tokenizer.encode("two", false);
    ids.insert(ids.end(), after.begin(), after.end());

    const auto stopped_at = [&](const std::string& stop, const std::string& text, std::size_t n) {
      const Said said = say(tokenizer, prompt, ids, {stop});
      EXPECT_EQ(said.text, text) << stop;
      EXPECT_EQ(said.n_tokens, n) << stop;
      EXPECT_TRUE(said.is_stopped) << stop;
    };
    stopped_at("<|special|>", " one", n_before + 1);
    stopped_at("ne<|special|>", " o", n_before + 1);
    stopped_at(" one<|special|>", "", n_before + 1);
    // The text is sought without them, too: no answer contains its stop string.
    const std::string whole = say(tokenizer, prompt, ids, {}).text;
    const Said across = say(tokenizer, prompt, ids, {whole.substr(3)});
    EXPECT_EQ(across.text, whole.substr(0, 3));
    EXPECT_TRUE(across.is_stopped);
    // A part of a token is not the token, nor is text that goes on otherwise a stop string.
    for (const char* stop : {"l|>", "<|spec", "e<|", "ne<|special|>x"}) {
      const Said said = say(tokenizer, prompt, ids, {stop});
      EXPECT_EQ(said.text, whole) << stop;
      EXPECT_FALSE(said.is_stopped) << stop;
    }

    CompletionText ended(tokenizer, {.prompt_ids = prompt, .stop = {"ne<|special|>"}});
    std::string text;
    for (std::size_t i = 0; i < n_before; ++i) EXPECT_FALSE(ended.push(ids[i], text));
    EXPECT_TRUE(ended.push_end_token(special, text));
    ended.finish(text);
    EXPECT_EQ(text, " o");
  }
}

}  // namespace
}  // namespace nereid::engine
