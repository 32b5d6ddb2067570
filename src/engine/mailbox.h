// Goal: the events of one request on their way from the thread that computes to the one that reads.
// Non-goal: what they come to (Reply).
// Rejected: a bounded box. The thread that computes would wait for the slowest reader; what a box
// can hold is bounded by the request's own tokens.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/clock.h"
#include "engine/generator.h"

namespace nereid::engine {

// An AnswerEvent that owns what it tells.
struct KeptEvent {
  explicit KeptEvent(const AnswerEvent& event);
  AnswerEvent view() const;

  RequestId request;
  std::int32_t answer;
  std::vector<TokenId> ids;
  std::vector<TokenLogprobs> logprobs, prompt_logprobs;
  std::int64_t n_cached_tokens;
  bool has_end_token;
  FinishReason finish_reason;
  std::string error;
};

class Mailbox {
 public:
  // Of the thread that computes. What was put can be taken once it is delivered: a step fills many
  // boxes, and is counted, before anybody hears of it.
  void put(const AnswerEvent& event) { put_.emplace_back(event); }
  void deliver();
  // All answers that have no end yet get one for this reason; nothing is put or delivered any more.
  // Takes no memory: that may be what is short.
  void fail(RequestId request, std::int32_t n_answers,
            std::shared_ptr<const std::string> why) noexcept;

  // Of the thread that reads. Waits until there are events, at most until `until`, and takes all.
  // None where time ran out. The last after fail() are an end for each answer, its second for some.
  std::vector<KeptEvent> take(Clock::time_point until);

 private:
  std::vector<KeptEvent> put_;  // not delivered

  std::mutex mutex_;
  std::condition_variable has_mail_;
  std::vector<KeptEvent> events_;
  RequestId failed_request_ = 0;
  std::int32_t n_failed_answers_ = 0;  // whose ends are still to be made
  std::shared_ptr<const std::string> failure_;
};

}  // namespace nereid::engine
