// Goal: what a caller asks of the engine and what it gets back: one prompt in, tokens and text out.
// Non-goal: chat messages and templates; a caller renders those to a prompt first.
// Rejected: one struct of options for the engine and its requests. What a request asks for never
// changes what is planned.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nereid/api.h"

namespace nereid {

using TokenId = std::int32_t;
using RequestId = std::int64_t;

// How the next token is chosen. The defaults are greedy: always the most likely one.
struct SamplingParams {
  float temperature = 0.0F;  // 0: greedy; larger is more random
  std::int32_t top_k = 0;    // only the k most likely tokens; 0 or -1: off
  float top_p = 1.0F;  // only the most likely tokens that together reach this probability; 1: off
  float min_p = 0.0F;  // only tokens at least this fraction as likely as the best; 0: off
  float repetition_penalty = 1.0F;  // above 1: tokens already in the text become less likely
  // Taken from the logits of generated tokens: once, and for each time. Below 0: more likely.
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  std::optional<std::uint64_t> seed = {};  // absent: the request's number, so that runs repeat
};

struct Request {
  std::string prompt = {};
  std::vector<TokenId> prompt_ids = {};  // where not empty: used as they are, in place of `prompt`
  SamplingParams sampling = {};
  std::int64_t max_tokens = 128;  // generation also ends where the model's context is full
  // The text ends before the first of these. They may name special tokens ("<|im_end|>"), which are
  // no part of the text.
  std::vector<std::string> stop = {};
  bool ignore_eos = false;  // go on past the model's end-of-text token
};

enum class FinishReason : std::uint8_t {
  none,       // still going
  stop,       // an end-of-text token or a stop string
  length,     // max_tokens, or the context is full
  cancelled,  // by the caller
  error,      // Completion::error says why
};
NEREID_API std::string_view finish_reason_name(FinishReason reason);

// What one step added to one request. The views are valid during the callback only.
struct Progress {
  RequestId request = 0;
  std::span<const TokenId> ids = {};  // new tokens
  std::string_view text = {};  // new text: whole UTF-8 characters, never a part of a stop string
  FinishReason finish_reason = FinishReason::none;
};
using ProgressCallback = std::function<void(const Progress&)>;

struct Completion {
  std::vector<TokenId> prompt_ids = {};
  // Without the prompt; with the end-of-text token that ended it, if one did.
  std::vector<TokenId> ids = {};
  // What prompt and ids decode to, less what the prompt decodes to: so it may begin with a space.
  // Without stop string and special tokens; empty for a model without a tokenizer.
  std::string text = {};
  FinishReason finish_reason = FinishReason::none;
  std::string error = {};  // FinishReason::error: what went wrong; the text until then stays
};

}  // namespace nereid
