// Goal: a conversation with one model: the messages so far, the next answer streamed to the
// terminal, what it cost.
// Non-goal: reading questions and commands (chat_input.h, chat_commands.h).
// Rejected: messages as structs. They go to the template, and to a file, as the JSON they are.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "chat/chat_template.h"
#include "chat/output/reasoning_format.h"
#include "nereid/service.h"
#include "tokenizer/tokenizer.h"

namespace nereid::apps {

class ChatSession {
 public:
  // Opens the model. `template_file`: in place of the model's own; empty: that. Says on stderr
  // where the model has none.
  ChatSession(const Options& options, const std::filesystem::path& template_file, bool is_terminal);

  // The request that every answer is asked for with, but for its prompt.
  Request& request() { return request_; }

  // Answers the message, or the last one once more, on stdout as it comes. Ctrl-C ends the answer.
  // An Error leaves the conversation as it was.
  void ask(const std::string& message);
  void retry();

  void set_system(const std::string& text);  // empty: none
  void clear();                              // all but the system message
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);
  std::string stats_text() const;  // of the last answer

 private:
  struct LastAnswer {
    std::size_t n_prompt_tokens = 0;
    std::int64_t n_cached_tokens = 0;
    std::size_t n_tokens = 0;
    double first_token_s = 0;
    double all_s = 0;
    FinishReason finish_reason = FinishReason::none;
  };

  void answer();
  nlohmann::ordered_json read_answer(Stream& stream, bool is_reasoning_open, LastAnswer& answer);

  Service service_;
  const tokenizer::Tokenizer& tokenizer_;  // the service's
  chat::ChatTemplate template_;
  const chat::ReasoningFormat* reasoning_;
  bool is_terminal_;
  Request request_;
  nlohmann::ordered_json messages_ = nlohmann::ordered_json::array();
  LastAnswer last_;
};

}  // namespace nereid::apps
