#include "server/live_answer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace nereid::server {

LiveAnswer::LiveAnswer(std::vector<Stream> streams, std::unique_ptr<AnswerWriter> writer,
                       bool streams_events)
    : streams_(std::move(streams)),
      is_read_(streams_.size()),
      completions_(streams_.size()),
      writer_(std::move(writer)),
      streams_events_(streams_events) {}

std::vector<RequestId> LiveAnswer::requests() const {
  std::vector<RequestId> requests;
  for (const auto& stream : streams_) requests.push_back(stream.id());
  return requests;
}

bool LiveAnswer::pump(Exchange& exchange) {
  events_.clear();
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (is_read_[i]) continue;
    const auto on_progress = [&](const Progress& progress) {
      // How those end is told below.
      if (progress.finish_reason != FinishReason::error &&
          progress.finish_reason != FinishReason::cancelled)
        writer_->on_progress(i, progress, events_);
    };
    if (streams_[i].poll(on_progress)) continue;
    is_read_[i] = true;
    completions_[i] = streams_[i].wait();
    for (const auto& answer : completions_[i].answers) {
      if (answer.finish_reason == FinishReason::error) {
        fail_with(exchange, ApiError(500, answer.error, {}, "internal"));
        return false;
      }
      if (answer.finish_reason == FinishReason::cancelled) {
        fail_with(exchange, ApiError(503, "the server is shutting down", {}, "draining"));
        return false;
      }
    }
  }
  const bool is_finished = std::ranges::all_of(is_read_, [](bool is_read) { return is_read; });
  if (streams_events_) {
    if (is_finished) writer_->finish(completions_, events_);
    if (!events_.empty()) {
      begin(exchange);
      exchange.send(events_);
      has_spoken_ = true;
    }
    if (is_finished) exchange.end();
  } else if (is_finished) {
    exchange.reply({.body = writer_->body(completions_)});
  }
  return !is_finished;
}

void LiveAnswer::beat(Exchange& exchange) {
  if (!streams_events_ || std::exchange(has_spoken_, false)) return;
  begin(exchange);
  exchange.send(":\n\n");
}

void LiveAnswer::begin(Exchange& exchange) {
  if (!std::exchange(has_begun_, true)) exchange.begin_events();
}

void LiveAnswer::fail_with(Exchange& exchange, const ApiError& error) {
  if (has_begun_) {
    exchange.send(writer_->error_event(error));
    exchange.end();
    return;
  }
  exchange.reply(error_reply(error, writer_->whole_error(error)));
}

}  // namespace nereid::server
