#include "apps/chat_commands.h"

#include <fmt/format.h>

#include <cstdio>
#include <span>
#include <vector>

#include "apps/sampling_options.h"
#include "base/usage_error.h"

namespace nereid::apps {

namespace {

struct ChatCommand {
  std::string_view name;
  std::string_view argument;  // as help shows it; empty: takes none; in brackets: may be left out
  std::string_view help;
  void (*run)(ChatSession& session, const std::string& argument);  // null: ends the chat
};

void tell(std::string_view text) { fmt::print(stderr, "{}\n", text); }
void help(ChatSession& session, const std::string& argument);

void set(ChatSession& session, const std::string& argument) {
  const std::size_t space = argument.find(' ');
  if (!argument.empty())
    set_sampling(session.request(), argument.substr(0, space),
                 space == std::string::npos ? "" : argument.substr(space + 1));
  tell(sampling_text(session.request()));
}

constexpr ChatCommand kCommands[] = {
    {"help", "", "this text", help},
    {"system", "[TEXT]", "how the model is to behave; without TEXT: as it does by itself",
     [](ChatSession& session, const std::string& text) { session.set_system(text); }},
    {"clear", "", "forget the conversation, but what /system said",
     [](ChatSession& session, const std::string&) { session.clear(); }},
    {"retry", "", "another answer to the last message",
     [](ChatSession& session, const std::string&) { session.retry(); }},
    {"save", "FILE", "write the messages, as JSON",
     [](ChatSession& session, const std::string& file) { session.save(file); }},
    {"load", "FILE", "go on with the messages of such a file",
     [](ChatSession& session, const std::string& file) { session.load(file); }},
    {"set", "[NAME VALUE]", "temperature, top_p, max_tokens, seed, ...; alone: all of them", set},
    {"stats", "", "what the last answer cost",
     [](ChatSession& session, const std::string&) { tell(session.stats_text()); }},
    {"exit", "", "end the chat, as Ctrl-D does", nullptr},
};

void help(ChatSession& /*session*/, const std::string& /*argument*/) {
  for (const ChatCommand& command : kCommands)
    tell(fmt::format("/{:<19}{}", fmt::format("{} {}", command.name, command.argument),
                     command.help));
  tell(
      "A line that ends with \\ goes on in the next; \"\"\" begins and ends a text of many lines.");
  tell("Ctrl-C stops an answer; at the prompt it drops the line.");
}

}  // namespace

bool run_chat_command(ChatSession& session, const std::string& message) {
  const std::size_t space = std::min(message.find_first_of(" \n"), message.size());
  const std::string name = message.substr(1, space - 1);
  std::string argument = message.substr(space);
  argument.erase(0, argument.find_first_not_of(" \n"));
  argument.erase(argument.find_last_not_of(" \n") + 1);
  std::vector<std::string> names;
  for (const ChatCommand& command : kCommands) {
    names.push_back(fmt::format("/{}", command.name));
    if (command.name != name) continue;
    if (command.argument.empty() && !argument.empty())
      throw UsageError("/{} takes nothing after it", name);
    if (!command.argument.empty() && !command.argument.starts_with('[') && argument.empty())
      throw UsageError("/{}: expected {}", name, command.argument);
    if (command.run == nullptr) return false;
    command.run(session, argument);
    return true;
  }
  throw UsageError("there is no /{}; expected one of {}", name, fmt::join(names, ", "));
}

}  // namespace nereid::apps
