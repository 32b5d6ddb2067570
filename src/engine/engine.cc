#include "nereid/engine.h"

#include "base/error.h"
#include "engine/generator.h"
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
    case FinishReason::error:
      return "error";
  }
  NEREID_UNREACHABLE("finish reason {}", int(reason));
}

struct Engine::Impl {
  explicit Impl(const Options& options)
      : session(options),
        generator(session.runner(), session.tokenizer(), session.eos_ids(), opened) {}

  const tokenizer::Tokenizer& tokenizer() const {
    if (session.tokenizer() == nullptr)
      throw Error(ErrorCode::not_found, "{} has no tokenizer.json; work with token ids",
                  session.options().model_dir.string());
    return *session.tokenizer();
  }

  engine::Clock::time_point opened = engine::Clock::now();
  engine::Session session;
  engine::Generator generator;
};

Engine::Engine(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

RequestId Engine::submit(const Request& request) { return impl_->generator.submit(request); }
bool Engine::step(const ProgressCallback& on_progress) {
  return impl_->generator.step(on_progress);
}
void Engine::cancel(RequestId request) { impl_->generator.cancel(request); }
Completion Engine::take(RequestId request) { return impl_->generator.take(request); }

std::vector<Completion> Engine::run(std::span<const Request> requests,
                                    const ProgressCallback& on_progress) {
  std::vector<RequestId> ids;
  ids.reserve(requests.size());
  try {
    for (const auto& request : requests) ids.push_back(submit(request));
  } catch (...) {
    for (const RequestId id : ids) impl_->generator.withdraw(id);
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
