// Goal: what somebody asks, a message at a time: edited with a history where a person sits at a
// terminal, a line each where another program writes.
// Non-goal: what a message means (chat_commands.h).
// Rejected: editing a message of several lines as one. Every terminal and editor differs in what
// key goes on; a `\` at the end of a line and `"""` are the same in a pipe.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "apps/output.h"

namespace nereid::apps {

class ChatInput {
 public:
  // At a terminal (both of stdin and stdout): the line editor and the history in the user's state.
  ChatInput();
  ~ChatInput();
  ChatInput(const ChatInput&) = delete;
  ChatInput& operator=(const ChatInput&) = delete;

  bool is_terminal() const;
  // A line, or several: one that ends with `\` goes on in the next; from one that begins with
  // `"""` to one that ends so. Nothing where there is no more, or where Ctrl-C was pressed twice.
  std::optional<std::string> next_message();

 private:
  enum class End : unsigned char { line, interrupted, over };
  End next_line(bool is_first, InterruptFlag& interrupt, std::string& line);

  struct Editor;
  std::unique_ptr<Editor> editor_;  // at a terminal
};

}  // namespace nereid::apps
