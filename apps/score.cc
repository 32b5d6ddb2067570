// nereid score: how likely a model finds a text, token by token.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "base/error.h"
#include "engine/scoring.h"
#include "engine/session.h"
#include "model/safetensors.h"

namespace nereid::apps {

namespace {

struct ScoreArguments {
  ModelArguments model;
  std::string text;
  std::string file;
  std::string ids;
  std::string logits_file;
  bool is_json = false;
};

std::vector<std::int32_t> ids_to_score(const ScoreArguments& arguments,
                                       const engine::Session& session) {
  if (!arguments.ids.empty()) return parse_ids(arguments.ids);
  if (session.tokenizer() == nullptr)
    throw Error("{} has no tokenizer.json; give the text as token ids with --ids 1,2,3",
                session.options().model_dir.string());
  const std::string text = arguments.file.empty() ? arguments.text : read_input(arguments.file);
  note_written_start("the text", session.tokenizer()->written_start(text));
  return session.tokenizer()->encode_prompt(text);
}

// One tensor "logits" [T, V].
void write_logits(const std::string& path, std::span<const float> logits, std::int64_t n_tokens,
                  std::int64_t vocab_size) {
  const HostTensor tensor{DType::fp32, {n_tokens, vocab_size}, std::as_bytes(logits)};
  model::write_safetensors(path, {{"logits", tensor}});
}

int run_score(const ScoreArguments& arguments) {
  engine::Session session(resolve(arguments.model));
  const auto ids = ids_to_score(arguments, session);
  const std::int64_t vocab_size = session.config().vocab_size;
  std::vector<float> logits;
  engine::LogitsSink sink;
  if (!arguments.logits_file.empty()) {
    logits.reserve(ids.size() * std::size_t(vocab_size));
    sink = [&](std::int64_t, std::span<const float> rows) {
      logits.insert(logits.end(), rows.begin(), rows.end());
    };
  }
  const engine::Score score = engine::score(session.runner(), ids, sink);
  if (sink) write_logits(arguments.logits_file, logits, std::int64_t(ids.size()), vocab_size);
  if (arguments.is_json)
    write_json({{"tokens", ids.size()},
                {"nll", score.nll},
                {"perplexity", score.perplexity},
                {"logprobs", score.logprobs}});
  else if (score.logprobs.empty())
    write_out("1 token: nothing can be scored\n");
  else
    write_out(fmt::format("{} tokens, {:.6f} nats a token, perplexity {:.4f}\n", ids.size(),
                          score.nll, score.perplexity));
  return 0;
}

}  // namespace

void add_score(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<ScoreArguments>();
  CLI::App& command = *app.add_subcommand("score", "Perplexity and log-probabilities of a text");
  command.footer(
      "\nExamples:\n  nereid score demo -f main.py\n"
      "  nereid score demo --ids 8183,315,7586 --json --logits logits.safetensors");
  add_model_options(command, arguments->model);
  auto* source = command.add_option_group("Text");
  source->add_option("-p,--prompt", arguments->text, "The text")->type_name("TEXT");
  source->add_option("-f,--file", arguments->file, "A text file; - for standard input")
      ->check(not_empty())
      ->type_name("FILE");
  source->add_option("--ids", arguments->ids, "Token ids, 1,2,3: scored as they are")
      ->check(not_empty())
      ->type_name("IDS");
  source->require_option(1);
  command
      .add_option(
          "--logits", arguments->logits_file,
          "Write the logits as a safetensors file: one tensor logits [tokens, vocabulary], fp32, "
          "row t after token t")
      ->type_name("FILE");
  command.add_flag("--json", arguments->is_json, "One JSON object on stdout instead of text");
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_score(*arguments); };
  });
}

}  // namespace nereid::apps
