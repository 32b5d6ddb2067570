// Goal: an answer to messages, told apart into content, reasoning and calls while it comes; an
// API's writer says each piece in its own words, and all of it at the end in one. Non-goal: those
// words.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "chat/output/output_parser.h"
#include "nereid/request.h"
#include "server/live_answer.h"

namespace nereid::server {

struct ToolCall {
  std::string id = {}, name = {}, arguments = {};
};

// What one answer has come to.
struct ChatMessage {
  std::string content, reasoning;
  std::vector<ToolCall> calls;
  FinishReason finish_reason = FinishReason::none;
};

class ChatWriter : public AnswerWriter {
 public:
  ChatWriter(const chat::OutputOptions& output, std::size_t n_answers);

  void on_progress(std::size_t request, const Progress& progress, std::string& events) final;

 protected:
  // Before the deltas of a progress.
  virtual void on_part(std::size_t /*answer*/, const Progress& /*progress*/,
                       std::string& /*events*/) {}
  virtual void on_delta(std::size_t answer, const chat::OutputDelta& delta,
                        std::string& events) = 0;
  // The answer's message is whole.
  virtual void on_end(std::size_t answer, std::string& events) = 0;

  const std::vector<ChatMessage>& messages() const { return messages_; }

 private:
  std::vector<chat::OutputParser> parsers_;  // [answers]
  std::vector<ChatMessage> messages_;        // [answers]
};

}  // namespace nereid::server
