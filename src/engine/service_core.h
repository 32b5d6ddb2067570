// Goal: a Generator behind one thread of its own: requests, cancellations and ends go in through
// one locked queue, events come out through a mailbox a request.
// Non-goal: text (Stream makes it on its reader's thread), opening models (who gives the opener).
// Rejected: a lock around the Generator: whoever submits would wait for a whole step. Going on
// after an exception that is no step's: a stream would lack an event, and nobody could tell which.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/progress.h"
#include "engine/generator.h"
#include "engine/mailbox.h"
#include "engine/metrics_recorder.h"
#include "nereid/service.h"
#include "tokenizer/tokenizer.h"

namespace nereid::engine {

// What a service computes with. The runner belongs to the owner.
struct ServedModel {
  std::shared_ptr<void> owner;
  Runner* runner = nullptr;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;  // may be null
  std::vector<TokenId> eos_ids;
  ModelInfo info;
  std::function<MatcherMaker(const Constraint&)> matchers_of;  // from any thread
};
// Called on the service's thread.
using ModelOpener = std::function<ServedModel(const ProgressSink&)>;

// One request, for the thread that computes and the one that reads.
struct Ticket {
  RequestId id = 0;
  std::int32_t n_answers = 1;
  std::int64_t n_prompt_tokens = 0;
  Clock::time_point submitted;
  Mailbox mailbox;

  // Of the thread that computes, once submitted.
  RequestId number = -1;          // the generator's
  std::int32_t n_unfinished = 1;  // answers
  bool has_begun = false;
  bool has_news = false;                       // to be delivered
  std::vector<Clock::time_point> last_tokens;  // of each answer
};

// What other threads ask of the one that computes. Streams that outlive their service still have
// it.
class Inbox {
 public:
  struct Submission {
    std::shared_ptr<Ticket> ticket;
    Request request;
    MatcherMaker make_matcher;
  };
  // An answer ends, or with -1 all that have not.
  struct End {
    std::shared_ptr<Ticket> ticket;
    std::int32_t answer = -1;
    FinishReason reason = FinishReason::cancelled;  // stop: by its reader, who needs not be told
  };
  struct Mail {
    std::vector<Submission> submissions;
    std::vector<End> ends;
    bool is_closed = false;
  };

  void put(Submission submission);
  void put(End end);
  void close();
  // Waits, where asked to, until there is something.
  Mail take(bool waits);

 private:
  std::mutex mutex_;
  std::condition_variable has_mail_;
  Mail mail_;
};

class ServiceCore {
 public:
  ServiceCore(ModelOpener opener, ServiceOptions options);
  ~ServiceCore();
  ServiceCore(const ServiceCore&) = delete;
  ServiceCore& operator=(const ServiceCore&) = delete;

  // From any thread; as the members of Service.
  ServiceStatus status() const;
  void wait_until_ready();
  const ServedModel& model() const;
  // `request.prompt_ids` is the prompt. Compiles its constraint.
  std::shared_ptr<Ticket> submit(Request request);
  bool drain(std::chrono::milliseconds longest_wait);
  Metrics metrics() const;
  const std::shared_ptr<Inbox>& inbox() const { return inbox_; }

 private:
  using Text = std::shared_ptr<const std::string>;

  void run();
  void open();
  void serve();
  void fail(const Text& why) noexcept;
  Text text_of_exception() const noexcept;
  void take_mail(bool waits);
  void start(const Inbox::Submission& submission);
  void end(const Inbox::End& end);
  void tell(const AnswerEvent& event);
  void put(const std::shared_ptr<Ticket>& ticket, AnswerEvent event);
  void end_answer(Ticket& ticket, FinishReason reason);
  void count_end(Ticket& ticket, FinishReason reason);
  void publish();
  void deliver();
  [[noreturn]] void refuse(ErrorCode code, const std::string& why);

  const ModelOpener opener_;
  const ServiceOptions options_;
  const std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  const Text out_of_memory_ = std::make_shared<const std::string>("memory ran out");

  // Of all threads.
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  ServiceStatus status_;  // but for its error
  Text failure_;
  ErrorCode failure_code_ = ErrorCode::device;
  std::exception_ptr open_error_;
  std::optional<ServedModel> model_;      // set once, before the service is ready
  std::unique_ptr<Generator> generator_;  // likewise; others only check() with it
  Metrics published_;
  std::int64_t n_submitted_ = 0, n_refused_ = 0;
  std::int64_t n_submitted_prompt_tokens_ = 0, n_begun_prompt_tokens_ = 0;  // of requests

  // Of the service's own thread.
  MetricsRecorder recorder_;
  Inbox::Mail mail_;                                                // taken last
  std::unordered_map<RequestId, std::shared_ptr<Ticket>> running_;  // by the generator's number
  std::vector<std::shared_ptr<Ticket>> with_news_;
  std::vector<RequestId> news_ids_;  // of those that were delivered last
  std::exception_ptr lost_event_;    // why one could not be told
  std::int64_t begun_prompt_tokens_ = 0;
  bool is_closed_ = false;

  std::thread thread_;  // the last: it uses all of the above
};

}  // namespace nereid::engine
