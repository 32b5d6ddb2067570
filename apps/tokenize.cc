// nereid tokenize: the token ids of a text.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "base/error.h"
#include "engine/session.h"

namespace nereid::apps {

namespace {

struct TokenizeArguments {
  std::string model;
  std::string text;
  std::string file;
  bool has_special = false;
  bool is_json = false;
};

int run_tokenize(const TokenizeArguments& arguments) {
  const auto directory = model_directory(arguments.model);
  const auto tokenizer = engine::load_tokenizer(directory);
  if (!tokenizer)
    throw Error("tokenizer.json not found in {}; expected a Hugging Face snapshot directory",
                directory.string());
  const std::string text = arguments.file.empty() ? arguments.text : read_input(arguments.file);
  if (arguments.has_special) note_written_start("the text", tokenizer->written_start(text));
  const auto ids =
      arguments.has_special ? tokenizer->encode_prompt(text) : tokenizer->encode(text, false);
  if (arguments.is_json)
    write_json({{"ids", ids}, {"text", tokenizer->decode(ids, /*skip_special=*/false)}});
  else
    write_out(fmt::format("{}\n", fmt::join(ids, ",")));
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<TokenizeArguments>();
  CLI::App& command = *app.add_subcommand("tokenize", "Print the token ids of a text");
  command.footer("\nExample:\n  nereid tokenize demo -p \"def f(x):\"");
  add_model(command, arguments->model);
  auto* source = command.add_option_group("Text");
  source->add_option("-p,--prompt", arguments->text, "The text")->type_name("TEXT");
  source->add_option("-f,--file", arguments->file, "A text file; - for standard input")
      ->check(not_empty())
      ->type_name("FILE");
  source->require_option(1);
  command.add_flag("--special", arguments->has_special,
                   "With the special tokens that `generate` and `score` put around a text");
  command.add_flag("--json", arguments->is_json,
                   "{\"ids\": [...], \"text\": what the ids decode to}");
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_tokenize(*arguments); };
  });
}

}  // namespace nereid::apps
