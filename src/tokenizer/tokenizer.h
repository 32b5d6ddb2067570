// Goal: text <-> token ids exactly as Hugging Face's tokenizers does it, from a model's
// tokenizer.json: byte-pair encoding over bytes (Llama 3, Qwen, GPT-2, StarCoder, Granite) or in
// SentencePiece's style (Llama 2, Mistral).
// Non-goal: training; other models than BPE; offsets of tokens in the text.
// Rejected: to ignore a part of tokenizer.json that is not known: it would give other ids, and
// worse answers, without a word.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "tokenizer/text_range.h"

namespace nereid::tokenizer {

// Immutable: any number of threads may use one at the same time.
class Tokenizer {
 public:
  // Reads tokenizer.json and, if there, tokenizer_config.json of a Hugging Face snapshot directory.
  static Tokenizer load(const std::filesystem::path& model_dir);

  // The same from text; `where` is what an Error calls it, `config` is tokenizer_config.json.
  static Tokenizer parse(std::string_view tokenizer_json, const std::string& where);
  static Tokenizer parse(std::string_view tokenizer_json, const std::string& where,
                         const Json& config);

  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Invalid UTF-8 is replaced first (to_valid_utf8 of tokenizer/utf8.h). `add_special_tokens` adds
  // what the model expects around a text, such as its first token; special tokens written in the
  // text are found in any case.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens = true) const;

  // The same, but no added token is found where it has a byte of `input`: ascending ranges of what
  // somebody other than the prompt's author wrote. Between the tokens that are found, text is
  // encoded as ever. With ranges, `text` is valid UTF-8, or an Error.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens,
                                   std::span<const TextRange> input) const;

  // The same, but a start that encode() would add and the prompt has already is there once:
  // "<s>The moon", written by hand or by a chat template, does not begin with two <s>.
  std::vector<std::int32_t> encode_prompt(std::string_view prompt) const;
  std::vector<std::int32_t> encode_prompt(std::string_view prompt,
                                          std::span<const TextRange> input) const;
  // That start, as the prompt writes it; empty where it does not.
  std::string_view written_start(std::string_view prompt) const;

  // Valid UTF-8. Ids that no token has are passed over.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = true) const;

  std::optional<std::int32_t> token_id(std::string_view token) const;
  std::string_view token_text(
      std::int32_t id) const;  // as the vocabulary writes it; empty where there is none
  // The bytes that the token adds in the middle of a text: not always whole characters. Empty for
  // special tokens and where there is none.
  std::string token_bytes(std::int32_t id) const;
  bool is_special(std::int32_t id) const;
  std::int32_t vocab_size() const;  // one more than the largest id

 private:
  friend class StreamDecoder;
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

// Text as tokens arrive. It never ends inside a UTF-8 character, and all of it together is what
// decode() gives. Views hold until the next call.
class StreamDecoder {
 public:
  // `tokenizer`, wherever it is moved, must outlive this.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  // The text that this token settles: often a word, sometimes nothing.
  std::string_view push(std::int32_t id);
  std::string_view pending();  // what flush() would give now
  std::string_view flush();    // the rest; after it a new text may begin

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nereid::tokenizer
