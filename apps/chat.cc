// nereid chat: a conversation with a model, in the terminal or through a pipe.
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>

#include "apps/chat_commands.h"
#include "apps/chat_input.h"
#include "apps/chat_session.h"
#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "apps/sampling_options.h"

namespace nereid::apps {

namespace {

// An answer in a conversation is longer than the rest of a line of code.
constexpr std::int64_t kMaxAnswerTokens = 2048;

struct ChatArguments {
  ModelArguments model;
  Request request;
  std::string template_file;
  std::string system;
};

constexpr const char* kFooter = R"(
Examples:
  nereid chat path/to/Qwen3-4B
  nereid chat path/to/Llama-3.2-1B-Instruct --system "Answer in one sentence." --temperature 0.7
  nereid chat path/to/Qwen3-4B < questions.txt > answers.txt
/help lists what else can be typed. In a pipe each line is a question of the one conversation.)";

int run_chat(const ChatArguments& arguments) {
  Options options = resolve(arguments.model);
  options.max_sequences = 1;
  ChatInput input;
  ChatSession session(options, arguments.template_file, input.is_terminal());
  session.request() = arguments.request;
  session.set_system(arguments.system);
  bool has_failed = false;
  const InterruptFlag outside_of_lines_and_answers;
  while (const std::optional<std::string> message = input.next_message()) {
    if (message->find_first_not_of(" \t\n") == std::string::npos) continue;
    try {
      if (!is_chat_command(*message))
        session.ask(*message);
      else if (!run_chat_command(session, *message))
        break;
    } catch (const Error& error) {
      // The next message may do better; who reads the exit code of a pipe is told.
      has_failed = true;
      fmt::print(stderr, "nereid: {}\n", error.what());
    }
  }
  return has_failed && !input.is_terminal() ? 1 : 0;
}

}  // namespace

void add_chat(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<ChatArguments>();
  arguments->request.max_tokens = kMaxAnswerTokens;
  CLI::App& command = *app.add_subcommand("chat", "Talk with a model");
  command.footer(kFooter);
  command
      .add_option("--chat-template", arguments->template_file,
                  "A file with a Jinja template, in place of the model's own")
      ->type_name("FILE")
      ->check(CLI::ExistingFile)
      ->group(kAnswerGroup);
  command.add_option("--system", arguments->system, "How the model is to behave")
      ->type_name("TEXT")
      ->group(kAnswerGroup);
  add_sampling_options(command, arguments->request);
  command
      .add_option("--seed", arguments->request.sampling.seed,
                  "Of every answer; without it each has another")
      ->check(in_range(engine::ranges::kSeed))
      ->type_name("N")
      ->group(kAnswerGroup);
  command
      .add_option("--stop", arguments->request.stop,
                  "End an answer before this text; may be repeated")
      ->allow_extra_args(false)
      ->check(not_empty())
      ->type_name("TEXT")
      ->group(kAnswerGroup);
  add_model_options(command, arguments->model);
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_chat(*arguments); };
  });
}

}  // namespace nereid::apps
