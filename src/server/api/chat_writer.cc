#include "server/api/chat_writer.h"

namespace nereid::server {

namespace {

void append(ChatMessage& message, const chat::OutputDelta& delta) {
  using Kind = chat::OutputDelta::Kind;
  switch (delta.kind) {
    case Kind::content:
      message.content += delta.text;
      break;
    case Kind::reasoning:
      message.reasoning += delta.text;
      break;
    case Kind::call_begin:
      message.calls.push_back({.id = std::string(delta.id), .name = std::string(delta.name)});
      break;
    case Kind::call_arguments:
      message.calls.back().arguments += delta.text;
      break;
    case Kind::call_end:
      break;
  }
}

}  // namespace

ChatWriter::ChatWriter(const chat::OutputOptions& output, std::size_t n_answers)
    : messages_(n_answers) {
  for (std::size_t i = 0; i < n_answers; ++i) {
    auto options = output;
    options.seed += i;
    parsers_.emplace_back(options);
  }
}

void ChatWriter::on_progress(std::size_t /*request*/, const Progress& progress,
                             std::string& events) {
  const auto answer = std::size_t(progress.answer);
  const auto sink = [&](const chat::OutputDelta& delta) {
    append(messages_[answer], delta);
    on_delta(answer, delta, events);
  };
  on_part(answer, progress, events);
  parsers_[answer].push(progress.text, sink);
  if (progress.finish_reason == FinishReason::none) return;
  parsers_[answer].finish(sink);
  messages_[answer].finish_reason = progress.finish_reason;
  on_end(answer, events);
}

}  // namespace nereid::server
