#include "engine/service_core.h"

#include <new>
#include <utility>

#include "base/error.h"
#include "engine/ranges.h"

namespace nereid::engine {

void Inbox::put(Submission submission) {
  const std::lock_guard lock(mutex_);
  mail_.submissions.push_back(std::move(submission));
  has_mail_.notify_one();
}

void Inbox::put(End end) {
  const std::lock_guard lock(mutex_);
  if (mail_.is_closed) return;
  mail_.ends.push_back(std::move(end));
  has_mail_.notify_one();
}

void Inbox::close() {
  const std::lock_guard lock(mutex_);
  mail_.is_closed = true;
  has_mail_.notify_one();
}

Inbox::Mail Inbox::take(bool waits) {
  std::unique_lock lock(mutex_);
  if (waits)
    has_mail_.wait(
        lock, [&] { return mail_.is_closed || !mail_.submissions.empty() || !mail_.ends.empty(); });
  Mail mail = std::exchange(mail_, {});
  mail_.is_closed = mail.is_closed;
  return mail;
}

ServiceCore::ServiceCore(ModelOpener opener, ServiceOptions options)
    : opener_(std::move(opener)), options_(std::move(options)) {
  check_options(options_);
  published_ = recorder_.metrics();
  thread_ = std::thread([this] { run(); });
}

ServiceCore::~ServiceCore() {
  inbox_->close();
  thread_.join();
}

ServiceStatus ServiceCore::status() const {
  const std::lock_guard lock(mutex_);
  ServiceStatus status = status_;
  if (failure_) status.error = *failure_;
  return status;
}

void ServiceCore::wait_until_ready() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return model_ || open_error_; });
  if (open_error_) std::rethrow_exception(open_error_);
}

const ServedModel& ServiceCore::model() const {
  const std::lock_guard lock(mutex_);
  if (open_error_) std::rethrow_exception(open_error_);
  if (!model_)
    throw Error(ErrorCode::overloaded, "the model is not open yet: {}; ask again later",
                status_.stage);
  return *model_;
}

void ServiceCore::refuse(ErrorCode code, const std::string& why) {
  ++n_refused_;
  throw Error(code, "{}", why);
}

std::shared_ptr<Ticket> ServiceCore::submit(Request request) {
  const auto& served = model();
  generator_->check(request);
  auto make_matcher = served.matchers_of(request.constraint);
  auto ticket = std::make_shared<Ticket>();
  ticket->n_answers = request.n_answers;
  ticket->n_prompt_tokens = std::int64_t(request.prompt_ids.size());
  ticket->submitted = Clock::now();
  ticket->n_unfinished = request.n_answers;
  ticket->last_tokens.resize(std::size_t(request.n_answers));
  const std::lock_guard lock(mutex_);
  if (status_.state == ServiceState::failed)
    refuse(failure_code_, fmt::format("the service failed: {}; open the model again", *failure_));
  if (status_.state == ServiceState::draining)
    refuse(ErrorCode::draining, "the service is draining: it takes no more requests");
  const auto n_queued = n_submitted_ - published_.n_running - published_.n_finished;
  if (n_queued >= options_.max_queued_requests)
    refuse(ErrorCode::overloaded,
           fmt::format("{} requests wait, as many as the queue holds; try again later", n_queued));
  const auto n_tokens = n_submitted_prompt_tokens_ - n_begun_prompt_tokens_;
  // One that waits alone is let in whatever its length.
  if (n_queued > 0 && n_tokens + ticket->n_prompt_tokens > options_.max_queued_prompt_tokens)
    refuse(ErrorCode::overloaded,
           fmt::format("{} prompt tokens wait and this prompt has {}; the queue holds {}; try "
                       "again later",
                       n_tokens, ticket->n_prompt_tokens, options_.max_queued_prompt_tokens));
  ticket->id = n_submitted_;
  // Requests that bring no seed differ by the order in which they came.
  if (!request.sampling.seed) request.sampling.seed = std::uint64_t(ticket->id);
  inbox_->put(Inbox::Submission{ticket, std::move(request), std::move(make_matcher)});
  ++n_submitted_;
  n_submitted_prompt_tokens_ += ticket->n_prompt_tokens;
  return ticket;
}

bool ServiceCore::drain(std::chrono::milliseconds longest_wait) {
  std::unique_lock lock(mutex_);
  if (status_.state != ServiceState::failed) status_.state = ServiceState::draining;
  changed_.notify_all();
  const auto is_done = [this] { return published_.n_finished == n_submitted_; };
  return changed_.wait_until(lock, later(Clock::now(), longest_wait), is_done);
}

Metrics ServiceCore::metrics() const {
  const std::lock_guard lock(mutex_);
  Metrics metrics = published_;
  metrics.n_submitted = n_submitted_;
  metrics.n_refused = n_refused_;
  metrics.n_queued = n_submitted_ - metrics.n_running - metrics.n_finished;
  metrics.n_queued_prompt_tokens = n_submitted_prompt_tokens_ - n_begun_prompt_tokens_;
  return metrics;
}

void ServiceCore::run() {
  try {
    open();
  } catch (...) {
    const std::lock_guard lock(mutex_);
    status_ = {.state = ServiceState::failed};
    failure_ = text_of_exception();
    open_error_ = std::current_exception();
    changed_.notify_all();
    return;
  }
  try {
    serve();
    generator_->check_integrity();
  } catch (...) {
    fail(text_of_exception());
  }
  // Others look at the model until then.
  while (!is_closed_) is_closed_ = inbox_->take(/*waits=*/true).is_closed;
  // What the model's device holds is given back on the thread that made it.
  const std::lock_guard lock(mutex_);
  generator_.reset();
  model_.reset();
}

void ServiceCore::open() {
  const auto opened = Clock::now();
  auto model = opener_([this](std::string_view stage, std::int64_t n_done, std::int64_t n_total) {
    const std::lock_guard lock(mutex_);
    status_.stage = stage;
    status_.n_done = n_done;
    status_.n_total = n_total;
  });
  auto generator = std::make_unique<Generator>(*model.runner, model.eos_ids, opened);
  const std::lock_guard lock(mutex_);
  model_ = std::move(model);
  generator_ = std::move(generator);
  if (status_.state == ServiceState::opening) status_ = {.state = ServiceState::ready};
  recorder_.read(*generator_);
  published_ = recorder_.metrics();
  changed_.notify_all();
}

void ServiceCore::serve() {
  const EventSink on_event = [this](const AnswerEvent& event) {
    try {
      tell(event);
    } catch (...) {
      lost_event_ = std::current_exception();
    }
    return false;
  };
  while (!is_closed_) {
    take_mail(/*waits=*/!generator_->has_work());
    if (is_closed_)
      for (const auto& [number, ticket] : running_) generator_->cancel(number);
    do {
      generator_->step(on_event);
      if (lost_event_) std::rethrow_exception(lost_event_);
      publish();
      deliver();
    } while (is_closed_ && generator_->has_work());
  }
}

// Nothing is computed any more, and all that was submitted ends.
void ServiceCore::fail(const Text& why) noexcept {
  {
    const std::lock_guard lock(mutex_);
    status_ = {.state = ServiceState::failed};
    failure_ = why;
    failure_code_ = ErrorCode::internal;
  }
  // From here on submit() refuses.
  const auto mail = inbox_->take(/*waits=*/false);
  is_closed_ = mail.is_closed;
  const auto for_all = [&](const auto& action) {
    for (const auto& submission : mail_.submissions) action(*submission.ticket);
    for (const auto& submission : mail.submissions) action(*submission.ticket);
    for (const auto& [number, ticket] : running_) action(*ticket);
    for (const auto& ticket : with_news_) action(*ticket);
  };
  for_all([&](Ticket& ticket) {
    while (ticket.n_unfinished > 0) count_end(ticket, FinishReason::error);
  });
  publish();
  for_all([&](Ticket& ticket) { ticket.mailbox.fail(ticket.id, ticket.n_answers, why); });
  running_.clear();
  with_news_.clear();
  try {
    if (options_.on_step) options_.on_step({});
  } catch (...) {  // it may be what failed
  }
}

ServiceCore::Text ServiceCore::text_of_exception() const noexcept {
  try {
    try {
      throw;
    } catch (const std::exception& error) {
      return std::make_shared<const std::string>(error.what());
    } catch (...) {
      return std::make_shared<const std::string>("something that is no std::exception was thrown");
    }
  } catch (const std::bad_alloc&) {
    return out_of_memory_;
  }
}

void ServiceCore::take_mail(bool waits) {
  mail_ = inbox_->take(waits);
  is_closed_ = mail_.is_closed;
  for (const auto& submission : mail_.submissions) start(submission);
  for (const auto& end : mail_.ends) this->end(end);
  mail_ = {};
}

void ServiceCore::start(const Inbox::Submission& submission) {
  const auto& ticket = submission.ticket;
  try {
    ticket->number =
        generator_->submit(submission.request, ticket->submitted, submission.make_matcher);
    running_.emplace(ticket->number, ticket);
  } catch (const std::exception& error) {
    // It was in order when it came: the device has failed since, or memory is short.
    generator_->withdraw(ticket->number);
    for (std::int32_t answer = 0; answer < ticket->n_answers; ++answer)
      put(ticket, {.answer = answer, .finish_reason = FinishReason::error, .error = error.what()});
  }
}

void ServiceCore::end(const Inbox::End& end) {
  Ticket& ticket = *end.ticket;
  if (end.reason == FinishReason::cancelled)
    generator_->cancel(ticket.number);
  else if (generator_->withdraw(ticket.number, end.answer))
    end_answer(ticket, end.reason);
}

void ServiceCore::tell(const AnswerEvent& event) {
  const auto ticket = running_.at(event.request);
  const auto now = Clock::now();
  const bool is_computed = !event.ids.empty() || !event.prompt_logprobs.empty();
  if (is_computed && !std::exchange(ticket->has_begun, true)) {
    begun_prompt_tokens_ += ticket->n_prompt_tokens;
    recorder_.record_begin(now - ticket->submitted);
  }
  if (!event.ids.empty()) {
    auto& last = ticket->last_tokens[std::size_t(event.answer)];
    if (last == Clock::time_point())
      recorder_.record_first_token(now - ticket->submitted);
    else
      recorder_.record_next_token(now - last);
    last = now;
  }
  put(ticket, event);
}

void ServiceCore::put(const std::shared_ptr<Ticket>& ticket, AnswerEvent event) {
  event.request = ticket->id;
  if (!ticket->has_news) with_news_.push_back(ticket);
  ticket->has_news = true;
  ticket->mailbox.put(event);
  if (event.finish_reason != FinishReason::none) end_answer(*ticket, event.finish_reason);
}

void ServiceCore::end_answer(Ticket& ticket, FinishReason reason) {
  count_end(ticket, reason);
  if (ticket.n_unfinished == 0) running_.erase(ticket.number);
}

void ServiceCore::count_end(Ticket& ticket, FinishReason reason) {
  recorder_.record_answer_end(reason);
  if (--ticket.n_unfinished > 0) return;
  if (!ticket.has_begun) begun_prompt_tokens_ += ticket.n_prompt_tokens;
  recorder_.record_request_end(Clock::now() - ticket.submitted, ticket.has_begun);
}

void ServiceCore::publish() {
  recorder_.read(*generator_);
  const std::lock_guard lock(mutex_);
  published_ = recorder_.metrics();
  n_begun_prompt_tokens_ = begun_prompt_tokens_;
  if (!generator_->broken().empty() && status_.state != ServiceState::failed) {
    failure_ = std::make_shared<const std::string>(generator_->broken());
    status_ = {.state = ServiceState::failed};
  }
  changed_.notify_all();
}

void ServiceCore::deliver() {
  if (with_news_.empty()) return;
  news_ids_.clear();
  for (const auto& ticket : with_news_) {
    ticket->has_news = false;
    ticket->mailbox.deliver();
    news_ids_.push_back(ticket->id);
  }
  with_news_.clear();
  if (options_.on_step) options_.on_step(news_ids_);
}

}  // namespace nereid::engine
