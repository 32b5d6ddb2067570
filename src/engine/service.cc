#include "nereid/service.h"

#include <new>
#include <utility>

#include "base/error.h"
#include "engine/clock.h"
#include "engine/reply.h"
#include "engine/sampling_params.h"
#include "engine/service_impl.h"
#include "engine/session.h"
#include "program/settings.h"

namespace nereid {

std::string_view service_state_name(ServiceState state) {
  switch (state) {
    case ServiceState::opening:
      return "opening";
    case ServiceState::ready:
      return "ready";
    case ServiceState::draining:
      return "draining";
    case ServiceState::failed:
      return "failed";
  }
  NEREID_UNREACHABLE("service state {}", int(state));
}

struct Stream::Impl {
  Impl(std::shared_ptr<const tokenizer::Tokenizer> the_tokenizer,
       std::shared_ptr<engine::Inbox> the_inbox, std::shared_ptr<engine::Ticket> the_ticket,
       const Request& request, std::int64_t n_most_tokens)
      : tokenizer(std::move(the_tokenizer)),
        inbox(std::move(the_inbox)),
        ticket(std::move(the_ticket)),
        reply(tokenizer.get(), request, n_most_tokens) {}
  ~Impl() {
    try {
      if (!reply.is_finished()) cancel();
    } catch (const std::bad_alloc&) {  // it goes on to its end, unread
    }
  }

  void cancel() { inbox->put(engine::Inbox::End{ticket}); }

  // False once all has been handed out.
  bool read(const ProgressCallback& on_progress, engine::Clock::time_point until) {
    if (n_read == events.size()) {
      events.clear();
      n_read = 0;
      if (reply.is_finished()) return false;
      events = ticket->mailbox.take(until);
    }
    while (n_read < events.size()) {
      const auto& event = events[n_read++];
      if (reply.has_ended(event.answer)) continue;
      const auto added = reply.add(event.view());
      if (added.ends_here) inbox->put(engine::Inbox::End{ticket, event.answer, FinishReason::stop});
      if (on_progress) on_progress(added.progress);
    }
    return !reply.is_finished();
  }

  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  std::shared_ptr<engine::Inbox> inbox;
  std::shared_ptr<engine::Ticket> ticket;
  engine::Reply reply;
  std::vector<engine::KeptEvent> events;  // taken, and handed out up to n_read
  std::size_t n_read = 0;
  bool is_taken = false;  // its result
};

Stream::Stream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

Stream::Impl& Stream::impl() const {
  if (!impl_)
    throw Error(ErrorCode::invalid_argument,
                "this stream was moved from; use the one that it was moved to");
  return *impl_;
}

RequestId Stream::id() const { return impl().ticket->id; }

bool Stream::next(const ProgressCallback& on_progress) {
  return impl().read(on_progress, engine::Clock::time_point::max());
}

bool Stream::poll(const ProgressCallback& on_progress, std::chrono::milliseconds longest_wait) {
  return impl().read(on_progress, engine::later(engine::Clock::now(), longest_wait));
}

Completion Stream::wait() {
  while (next({})) {
  }
  if (std::exchange(impl().is_taken, true))
    throw Error(ErrorCode::invalid_argument,
                "the result of request {} was taken; wait() gives it once", id());
  return impl().reply.take();
}

void Stream::cancel() { impl().cancel(); }

namespace {

engine::ServedModel open_model(const Options& options, const ProgressSink& progress) {
  auto session = std::make_shared<engine::Session>(options, progress);
  const auto& device = session->device().info();
  const auto& runner = session->runner();
  return {.owner = session,
          .runner = &session->runner(),
          .tokenizer = session->shared_tokenizer(),
          .eos_ids = session->eos_ids(),
          .info = {.device = device.name,
                   .mode = program::resolve_mode(options.mode, device.target),
                   .max_context_tokens = runner.limits().max_sequence_tokens(),
                   .vocab_size = runner.vocab_size(),
                   .has_tokenizer = session->tokenizer() != nullptr,
                   .suggested_sampling = engine::suggested_sampling(session->config().generation)},
          .matchers_of = [&constraints = session->constraints()](const Constraint& constraint) {
            return constraints.matchers_of(constraint);
          }};
}

const tokenizer::Tokenizer& tokenizer_of(const engine::ServedModel& model) {
  if (!model.tokenizer) throw Error("the model has no tokenizer.json; work with token ids");
  return *model.tokenizer;
}

}  // namespace

Service::Service(const Options& options, ServiceOptions service_options)
    : impl_(std::make_unique<Impl>(
          [options](const ProgressSink& progress) { return open_model(options, progress); },
          std::move(service_options))) {}
Service::Service(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Service::~Service() = default;

ServiceStatus Service::status() const { return impl_->core.status(); }
void Service::wait_until_ready() { impl_->core.wait_until_ready(); }

Stream Service::submit(const Request& request) {
  const auto& model = impl_->core.model();
  Request with_ids = request;
  with_ids.prompt_ids = engine::prompt_ids_of(request, model.tokenizer.get());
  const auto ticket = impl_->core.submit(with_ids);
  try {
    return Stream(std::make_unique<Stream::Impl>(
        model.tokenizer, impl_->core.inbox(), ticket, with_ids,
        model.info.max_context_tokens - std::int64_t(with_ids.prompt_ids.size())));
  } catch (...) {  // memory is short, and nobody would read it
    impl_->core.inbox()->put(engine::Inbox::End{ticket});
    throw;
  }
}

bool Service::drain(std::chrono::milliseconds longest_wait) {
  return impl_->core.drain(longest_wait);
}
Metrics Service::metrics() const { return impl_->core.metrics(); }
const ModelInfo& Service::model() const { return impl_->core.model().info; }
std::vector<TokenId> Service::encode(std::string_view text) const {
  return tokenizer_of(impl_->core.model()).encode_prompt(text);
}
std::string Service::decode(std::span<const TokenId> ids) const {
  return tokenizer_of(impl_->core.model()).decode(ids);
}

}  // namespace nereid
