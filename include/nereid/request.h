// Goal: what a caller asks of the engine and what it gets back: one prompt in, tokens and text out.
// Non-goal: chat messages and templates; a caller renders those to a prompt first.
// Rejected: one struct of options for the engine and its requests. What a request asks for never
// changes what is planned.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nereid/api.h"
#include "nereid/constraint.h"

namespace nereid {

using TokenId = std::int32_t;
using RequestId = std::int64_t;

// How the next token is chosen. The defaults are greedy: always the most likely one.
struct SamplingParams {
  float temperature = 0.0F;  // 0: greedy; larger is more random
  std::int32_t top_k = 0;    // only the k most likely tokens; 0 or -1: off
  float top_p = 1.0F;  // only the most likely tokens that together reach this probability; 1: off
  float min_p = 0.0F;  // only tokens at least this fraction as likely as the best; 0: off
  float repetition_penalty = 1.0F;         // above 1: tokens already in the text become less likely
  float presence_penalty = 0.0F;           // taken off the logit of every token that was generated
  float frequency_penalty = 0.0F;          // taken off it for every time that it was
  std::optional<std::uint64_t> seed = {};  // absent: the request's number, so that runs repeat
};

struct TokenBias {
  TokenId id = 0;
  float bias = 0.0F;  // added to the token's logit
};

// The most that a request can name: likeliest tokens of a position; tokens in logit_bias and
// stop_ids together.
inline constexpr std::int32_t kMaxLogprobs = 20;
inline constexpr std::int32_t kMaxTokenBiases = 1024;

struct Request {
  std::string prompt = {};
  std::vector<TokenId> prompt_ids = {};  // where not empty: used as they are, in place of `prompt`
  SamplingParams sampling = {};
  std::int32_t n_answers = 1;     // to the one prompt; answer i is drawn with the seed + i
  std::int64_t max_tokens = 128;  // generation also ends where the model's context is full
  // Until so many are generated, no token is chosen that would end the answer (a stop string may,
  // and so does a constraint that nothing can follow).
  std::int64_t min_tokens = 0;
  // The text ends before the first of these. They may name special tokens ("<|im_end|>"), which are
  // no part of the text.
  std::vector<std::string> stop = {};
  bool include_stop = false;  // it ends behind that one instead, as far as that is text
  // False: special tokens are text as others are, but for the one that ended the answer.
  bool skip_special_tokens = true;
  std::vector<TokenId> stop_ids = {};  // tokens that end the answer as an end-of-text token does
  bool ignore_eos = false;             // go on past the model's end-of-text token
  // Log-probabilities of each chosen token, by the model itself (before penalties, biases and
  // temperature), and of so many of the likeliest, 0 to kMaxLogprobs; absent: none.
  std::optional<std::int32_t> n_logprobs = {};
  std::optional<std::int32_t> n_prompt_logprobs = {};  // the same of the prompt's tokens
  std::vector<TokenBias> logit_bias = {};              // before penalties and temperature
  std::vector<TokenId> allowed_ids = {};               // only these are chosen; empty: all
  // What the text of each answer must be. Tokens that end an answer are chosen only where it is
  // complete; where nothing can follow, the answer ends (FinishReason::stop) without one. Longer
  // than max_tokens, or cut by a stop string, it is a beginning of such a text.
  Constraint constraint = {};
  // Prompts share the cached start of others only where this is the same.
  std::string cache_salt = {};
  std::chrono::milliseconds time_limit{0};  // from submit(); then it ends with what it has; 0: none
  std::string user_id = {};  // the caller's own name for it, given back with the result
};

enum class FinishReason : std::uint8_t {
  none,       // still going
  stop,       // an end-of-text token, a stop token or a stop string
  length,     // max_tokens, or the context is full
  cancelled,  // by the caller
  time_limit,
  error,  // Answer::error says why
};
inline constexpr std::size_t kNFinishReasons = 6;
NEREID_API std::string_view finish_reason_name(FinishReason reason);

// Natural logarithms.
struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0.0F;
};
struct TokenLogprobs {
  TokenLogprob chosen = {};
  std::vector<TokenLogprob> top = {};  // likeliest first; of equals the lower id
};

// What one step added to one answer. The views are valid during the callback only.
struct Progress {
  RequestId request = 0;
  std::int32_t answer = 0;            // of Request::n_answers
  std::span<const TokenId> ids = {};  // new tokens
  std::string_view text = {};  // new text: whole UTF-8 characters, never a part of a stop string
  std::span<const TokenLogprobs> logprobs = {};  // of each of `ids`, where asked for
  FinishReason finish_reason = FinishReason::none;
};
using ProgressCallback = std::function<void(const Progress&)>;

struct Answer {
  // With the token that ended it, if one did.
  std::vector<TokenId> ids = {};
  // What prompt and ids decode to, less what the prompt decodes to: so it may begin with a space.
  // Without stop string and special tokens; empty for a model without a tokenizer.
  std::string text = {};
  std::vector<TokenLogprobs> logprobs = {};  // of each of `ids`, where asked for
  FinishReason finish_reason = FinishReason::none;
  std::string stop = {};   // of Request::stop the one that ended it; empty: nothing of them did
  std::string error = {};  // FinishReason::error: what went wrong; the text until then stays
};

struct Completion {
  std::string user_id = {};
  std::vector<TokenId> prompt_ids = {};
  // Prompt tokens whose keys and values another request had left in the cache.
  std::int64_t n_cached_tokens = 0;
  // Of each prompt token after the first, where asked for.
  std::vector<TokenLogprobs> prompt_logprobs = {};
  std::vector<Answer> answers = {};  // [n_answers]
};

}  // namespace nereid
