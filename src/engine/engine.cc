#include "nereid/engine.h"

#include <exception>
#include <unordered_map>

#include "base/error.h"
#include "engine/generator.h"
#include "engine/reply.h"
#include "engine/session.h"
#include "program/settings.h"

namespace nereid {

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return "none";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::time_limit:
      return "time_limit";
    case FinishReason::error:
      return "error";
  }
  NEREID_UNREACHABLE("finish reason {}", int(reason));
}

struct Engine::Impl {
  explicit Impl(const Options& options)
      : session(options), generator(session.runner(), session.eos_ids(), opened) {}

  const tokenizer::Tokenizer& tokenizer() const {
    if (session.tokenizer() == nullptr)
      throw Error("{} has no tokenizer.json; work with token ids",
                  session.options().model_dir.string());
    return *session.tokenizer();
  }

  engine::Reply& reply(RequestId request) {
    const auto it = replies.find(request);
    if (it == replies.end())
      throw Error(ErrorCode::not_found, "no request {}: it was never submitted, or was taken",
                  request);
    return it->second;
  }

  void check_not_in_step(std::string_view call) const {
    if (is_in_step)
      throw Error(ErrorCode::invalid_argument,
                  "{}() was called by the callback of step(); expected cancel() at most; call it "
                  "when step() has returned",
                  call);
  }

  bool on_event(const engine::AnswerEvent& event, const ProgressCallback& on_progress);

  engine::Clock::time_point opened = engine::Clock::now();
  engine::Session session;
  engine::Generator generator;
  std::unordered_map<RequestId, engine::Reply> replies;  // of requests that were not taken
  std::vector<RequestId> failed;                         // by their callback, in the step at hand
  bool is_in_step = false;
};

// True where the answer is over for the generator.
bool Engine::Impl::on_event(const engine::AnswerEvent& event, const ProgressCallback& on_progress) {
  engine::Reply& reply = replies.at(event.request);
  if (reply.has_ended(event.answer)) return true;
  const auto fail = [&](std::string_view why) {
    reply.fail(event.answer, fmt::format("the callback threw: {}", why));
    failed.push_back(event.request);
    return true;
  };
  try {
    const auto added = reply.add(event);
    if (on_progress) on_progress(added.progress);
    return added.ends_here;
  } catch (const std::exception& error) {
    return fail(error.what());
  } catch (...) {
    return fail("something that is no std::exception");
  }
}

Engine::Engine(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

RequestId Engine::submit(const Request& request) {
  impl_->check_not_in_step("submit");
  const auto* tokenizer = impl_->session.tokenizer();
  Request with_ids = request;
  with_ids.prompt_ids = engine::prompt_ids_of(request, tokenizer);
  const auto make_matcher = impl_->session.constraints().matchers_of(request.constraint);
  const RequestId id = impl_->generator.submit(with_ids, engine::Clock::now(), make_matcher);
  try {
    impl_->replies.emplace(
        id, engine::Reply(tokenizer, with_ids,
                          max_context_tokens() - std::int64_t(with_ids.prompt_ids.size())));
  } catch (...) {  // memory is short, and nobody would hear of it
    impl_->generator.withdraw(id);
    throw;
  }
  return id;
}

bool Engine::step(const ProgressCallback& on_progress) {
  impl_->check_not_in_step("step");
  struct InStep {
    bool& is_in_step;
    ~InStep() { is_in_step = false; }
  } in_step{impl_->is_in_step};
  impl_->is_in_step = true;
  impl_->generator.step(
      [&](const engine::AnswerEvent& event) { return impl_->on_event(event, on_progress); });
  // Their other answers.
  for (const RequestId request : impl_->failed) impl_->generator.withdraw(request);
  impl_->failed.clear();
  return impl_->generator.has_work();
}

void Engine::cancel(RequestId request) {
  impl_->reply(request);
  impl_->generator.cancel(request);
}

Completion Engine::take(RequestId request) {
  impl_->check_not_in_step("take");
  engine::Reply& reply = impl_->reply(request);
  if (!reply.is_finished())
    throw Error(ErrorCode::invalid_argument,
                "request {} is not finished; step() until it is, or cancel() it", request);
  Completion completion = reply.take();
  impl_->replies.erase(request);
  return completion;
}

std::vector<Completion> Engine::run(std::span<const Request> requests,
                                    const ProgressCallback& on_progress) {
  std::vector<RequestId> ids;
  ids.reserve(requests.size());
  try {
    for (const auto& request : requests) ids.push_back(submit(request));
  } catch (...) {
    for (const RequestId id : ids) {
      impl_->generator.withdraw(id);
      impl_->replies.erase(id);
    }
    throw;
  }
  while (step(on_progress)) {
  }
  std::vector<Completion> completions;
  completions.reserve(ids.size());
  for (const RequestId id : ids) completions.push_back(take(id));
  return completions;
}

bool Engine::has_tokenizer() const { return impl_->session.tokenizer() != nullptr; }
std::vector<TokenId> Engine::encode(std::string_view text) const {
  return impl_->tokenizer().encode_prompt(text);
}
std::string Engine::written_start(std::string_view prompt) const {
  return std::string(impl_->tokenizer().written_start(prompt));
}
std::string Engine::decode(std::span<const TokenId> ids) const {
  return impl_->tokenizer().decode(ids);
}

std::int64_t Engine::max_context_tokens() const {
  return impl_->session.runner().limits().max_sequence_tokens();
}
std::string Engine::mode() const {
  return program::resolve_mode(impl_->session.options().mode,
                               impl_->session.device().info().target);
}

std::string Engine::device_name() const { return impl_->session.device().info().name; }
Stats Engine::stats() const { return impl_->generator.stats(); }

}  // namespace nereid
