// Goal: an answer while it is made: it takes what its streams bring and says it in its API's words.
// Non-goal: when it is asked to (Server), and the words (AnswerWriter).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nereid/service.h"
#include "server/error_body.h"
#include "server/http/exchange.h"
#include "server/usage.h"

namespace nereid::server {

// How one API writes what the engine gives. `request`: which of the answer's requests.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  // Of every progress, streamed or not, in order; what a stream says of it goes to `events`.
  virtual void on_progress(std::size_t request, const Progress& progress, std::string& events) = 0;
  // All has come. The stream's last events, "[DONE]" among them.
  virtual void finish(const std::vector<Completion>& completions, std::string& events) = 0;
  // The whole reply's body, in place of events.
  virtual std::string body(const std::vector<Completion>& completions) = 0;
  // Where nothing was said yet.
  virtual std::string whole_error(const ApiError& error) { return error_body(error); }
  // Of a stream that cannot go on.
  virtual std::string error_event(const ApiError& error) = 0;
};

class LiveAnswer {
 public:
  LiveAnswer(std::vector<Stream> streams, std::unique_ptr<AnswerWriter> writer,
             bool streams_events);

  // Of its streams.
  std::vector<RequestId> requests() const;
  // Takes what came and says it. False once all is said; the streams that are left then end.
  bool pump(Exchange& exchange);
  // A comment, where nothing was said since the last beat: neither side takes the other for dead.
  void beat(Exchange& exchange);
  // Ends with an error, as a status where nothing was sent yet.
  void fail_with(Exchange& exchange, const ApiError& error);
  // Of what has ended.
  Usage usage() const { return usage_of(completions_); }

 private:
  void begin(Exchange& exchange);

  std::vector<Stream> streams_;
  std::vector<bool> is_read_;  // [streams_] to the end
  std::vector<Completion> completions_;
  std::unique_ptr<AnswerWriter> writer_;
  bool streams_events_;
  bool has_begun_ = false;  // the events' head is sent
  bool has_spoken_ = true;  // since the last beat
  std::string events_;
};

}  // namespace nereid::server
