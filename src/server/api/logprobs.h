// Goal: log-probabilities in the shapes that the APIs have for them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "nereid/request.h"
#include "tokenizer/tokenizer.h"

namespace nereid::server {

// The text of one token, for a list of tokens; bytes that are no text as \xNN.
std::string token_name(const tokenizer::Tokenizer& tokenizer, TokenId id);

// The chat API's: [{"token", "logprob", "bytes", "top_logprobs": [...]}, ...], without brackets.
void append_chat_logprobs(std::string& out, const tokenizer::Tokenizer& tokenizer,
                          std::span<const TokenLogprobs> tokens);

// The completions API's: four lists, which grow.
class CompletionLogprobs {
 public:
  // `n_top`: of the likeliest at each token.
  CompletionLogprobs(const tokenizer::Tokenizer& tokenizer, std::int32_t n_top);

  // Nothing is known of the first token of a prompt.
  void add_first(TokenId id);
  void add(std::span<const TokenLogprobs> tokens);
  // {"tokens": [...], "token_logprobs": [...], "top_logprobs": [...], "text_offset": [...]} of what
  // was added since the last take.
  std::string take();

 private:
  void add_name(TokenId id);

  const tokenizer::Tokenizer& tokenizer_;
  std::int32_t n_top_;
  std::string tokens_, values_, tops_, offsets_;
  std::int64_t offset_chars_ = 0;
};

// vLLM's form of a prompt's: a list of {"id": {"logprob", "rank", "decoded_token"}}, the first
// null.
std::string prompt_logprobs_json(const tokenizer::Tokenizer& tokenizer,
                                 std::span<const TokenLogprobs> tokens);

}  // namespace nereid::server
