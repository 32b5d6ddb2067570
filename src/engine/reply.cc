#include "engine/reply.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/usage_error.h"
#include "tokenizer/decoder.h"

namespace nereid::engine {

namespace {

// Text of a token, on average, for reserving: more costs one growth of a string.
constexpr std::int64_t kTextBytesPerToken = 4;
// Reserved for an answer at most: few are longer, and they may grow.
constexpr std::int64_t kReservedTokens = 4096;

}  // namespace

Reply::Reply(const tokenizer::Tokenizer* tokenizer, const Request& request,
             std::int64_t n_most_tokens)
    : n_unfinished_(std::size_t(request.n_answers)) {
  completion_.user_id = request.user_id;
  completion_.prompt_ids = request.prompt_ids;
  completion_.answers.resize(n_unfinished_);
  const auto n_tokens = std::min({request.max_tokens, n_most_tokens, kReservedTokens});
  for (auto& answer : completion_.answers) {
    answer.ids.reserve(std::size_t(n_tokens));
    if (tokenizer == nullptr) continue;
    answer.text.reserve(std::size_t(n_tokens * kTextBytesPerToken));
    texts_.emplace_back(*tokenizer, request);
  }
  new_text_.reserve(tokenizer::kTokenTextBytes);
}

bool Reply::has_ended(std::int32_t answer) const {
  return completion_.answers[std::size_t(answer)].finish_reason != FinishReason::none;
}

Reply::Added Reply::add(const AnswerEvent& event) {
  const auto index = std::size_t(event.answer);
  Answer& answer = completion_.answers[index];
  answer.ids.insert(answer.ids.end(), event.ids.begin(), event.ids.end());
  answer.logprobs.insert(answer.logprobs.end(), event.logprobs.begin(), event.logprobs.end());
  completion_.prompt_logprobs.insert(completion_.prompt_logprobs.end(),
                                     event.prompt_logprobs.begin(), event.prompt_logprobs.end());
  completion_.n_cached_tokens = std::max(completion_.n_cached_tokens, event.n_cached_tokens);

  auto reason = event.finish_reason;
  bool ends_here = false;
  new_text_.clear();
  if (!texts_.empty()) {
    CompletionText& text = texts_[index];
    for (const TokenId id : event.ids) {
      if (event.has_end_token)
        text.push_end_token(id, new_text_);
      else
        ends_here = text.push(id, new_text_);
    }
    if (!ends_here && reason != FinishReason::none && text.finish(new_text_) &&
        reason != FinishReason::error)
      reason = FinishReason::stop;
    else if (ends_here)
      text.finish(new_text_);
    answer.stop = text.stop();
  }
  if (ends_here) reason = FinishReason::stop;
  answer.text += new_text_;
  answer.error = event.error;
  if (reason != FinishReason::none) {
    answer.finish_reason = reason;
    --n_unfinished_;
  }
  return {{.request = event.request,
           .answer = event.answer,
           .ids = event.ids,
           .text = new_text_,
           .logprobs = event.logprobs,
           .finish_reason = reason},
          ends_here};
}

void Reply::fail(std::int32_t answer, std::string_view error) {
  for (auto& other : completion_.answers) {
    const bool is_it = &other == &completion_.answers[std::size_t(answer)];
    if (!is_it && other.finish_reason != FinishReason::none) continue;
    other.finish_reason = FinishReason::error;
    other.error = error;
  }
  n_unfinished_ = 0;
}

std::vector<TokenId> prompt_ids_of(const Request& request, const tokenizer::Tokenizer* tokenizer) {
  if (tokenizer == nullptr && !request.stop.empty())
    throw Error(ErrorCode::invalid_argument,
                "this model has no tokenizer.json; a stop string needs one");
  if (!request.prompt_ids.empty()) return request.prompt_ids;
  if (tokenizer == nullptr)
    throw Error(ErrorCode::invalid_argument,
                "this model has no tokenizer.json; give the prompt as token ids");
  return tokenizer->encode_prompt(request.prompt);
}

}  // namespace nereid::engine
