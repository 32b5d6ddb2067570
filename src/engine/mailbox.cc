#include "engine/mailbox.h"

#include <iterator>
#include <utility>

namespace nereid::engine {

KeptEvent::KeptEvent(const AnswerEvent& event)
    : request(event.request),
      answer(event.answer),
      ids(event.ids.begin(), event.ids.end()),
      logprobs(event.logprobs.begin(), event.logprobs.end()),
      prompt_logprobs(event.prompt_logprobs.begin(), event.prompt_logprobs.end()),
      n_cached_tokens(event.n_cached_tokens),
      has_end_token(event.has_end_token),
      finish_reason(event.finish_reason),
      error(event.error) {}

AnswerEvent KeptEvent::view() const {
  return {.request = request,
          .answer = answer,
          .ids = ids,
          .logprobs = logprobs,
          .prompt_logprobs = prompt_logprobs,
          .n_cached_tokens = n_cached_tokens,
          .has_end_token = has_end_token,
          .finish_reason = finish_reason,
          .error = error};
}

void Mailbox::deliver() {
  const std::lock_guard lock(mutex_);
  events_.insert(events_.end(), std::make_move_iterator(put_.begin()),
                 std::make_move_iterator(put_.end()));
  put_.clear();
  has_mail_.notify_one();
}

void Mailbox::fail(RequestId request, std::int32_t n_answers,
                   std::shared_ptr<const std::string> why) noexcept {
  const std::lock_guard lock(mutex_);
  failed_request_ = request;
  n_failed_answers_ = n_answers;
  failure_ = std::move(why);
  has_mail_.notify_one();
}

std::vector<KeptEvent> Mailbox::take(Clock::time_point until) {
  std::unique_lock lock(mutex_);
  const auto has_mail = [&] { return !events_.empty() || n_failed_answers_ > 0; };
  // A wait gives the processor away even where its time is up already, and on a busy machine it
  // comes back milliseconds later.
  if (!has_mail() && until > Clock::now()) has_mail_.wait_until(lock, until, has_mail);
  events_.reserve(events_.size() + std::size_t(n_failed_answers_));
  for (std::int32_t answer = 0; answer < n_failed_answers_; ++answer)
    events_.emplace_back(AnswerEvent{.request = failed_request_,
                                     .answer = answer,
                                     .finish_reason = FinishReason::error,
                                     .error = *failure_});
  n_failed_answers_ = 0;
  return std::exchange(events_, {});
}

}  // namespace nereid::engine
