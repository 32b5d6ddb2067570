// nereid score: how likely a model finds a text, token by token; and how far another is from it.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "base/error.h"
#include "device/registry.h"
#include "engine/comparing.h"
#include "engine/scoring.h"
#include "engine/session.h"
#include "model/safetensors.h"
#include "program/logit_comparison.h"
#include "program/settings.h"

namespace nereid::apps {

namespace {

struct ScoreArguments {
  ModelArguments model;
  std::string text;
  std::string file;
  std::string ids;
  std::string logits_file;
  std::string other;           // the model that is compared
  std::string other_quantize;  // what its weights are quantised to
  std::string other_activations = "auto";
  bool is_json = false;
};

// Empty where ids are given.
std::string text_of(const ScoreArguments& arguments) {
  return arguments.file.empty() ? arguments.text : read_input(arguments.file);
}

std::vector<std::int32_t> ids_to_score(const ScoreArguments& arguments, const std::string& text,
                                       const Options& options,
                                       const tokenizer::Tokenizer* tokenizer) {
  if (!arguments.ids.empty()) return parse_ids(arguments.ids);
  if (tokenizer == nullptr)
    throw Error("{} has no tokenizer.json; give the text as token ids with --ids 1,2,3",
                options.model_dir.string());
  note_written_start("the text", tokenizer->written_start(text));
  return tokenizer->encode_prompt(text);
}

// One tensor "logits" [T, V].
void write_logits(const std::string& path, std::span<const float> logits, std::int64_t n_tokens,
                  std::int64_t vocab_size) {
  const HostTensor tensor{DType::fp32, {n_tokens, vocab_size}, std::as_bytes(logits)};
  model::write_safetensors(path, {{"logits", tensor}});
}

int run_plain(const ScoreArguments& arguments) {
  engine::Session session(resolve(arguments.model));
  const auto ids =
      ids_to_score(arguments, text_of(arguments), session.options(), session.tokenizer());
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

// "demo", "demo --quantize fp8 --activations 8"
std::string name_of(const std::string& model, const Options& options) {
  auto name = model;
  if (!options.quantize.empty()) name += " --quantize " + options.quantize;
  if (options.activations != "auto") name += " --activations " + options.activations;
  return name;
}

void print_comparison(const ScoreArguments& arguments, const Options& other_options,
                      std::size_t n_tokens, const engine::Comparison& result) {
  if (arguments.is_json) {
    write_json({{"tokens", n_tokens},
                {"nll", result.p.nll},
                {"perplexity", result.p.perplexity},
                {"logprobs", result.p.logprobs},
                {"compared",
                 {{"nll", result.q.nll},
                  {"perplexity", result.q.perplexity},
                  {"logprobs", result.q.logprobs}}},
                {"perplexity_ratio", result.perplexity_ratio()},
                {"kl_mean", result.kl_mean},
                {"kl_max", result.kl_max},
                {"same_top", result.same_top}});
    return;
  }
  const auto name = name_of(arguments.model.model, arguments.model.options);
  const auto other = name_of(arguments.other, other_options);
  const auto width = std::max(name.size(), other.size());
  write_out(
      fmt::format("{:{}}  perplexity {:.4f}\n{:{}}  perplexity {:.4f}, {:.4f} times that\n"
                  "KL divergence from the first: mean {:.6f}, most {:.6f} nats a token\n"
                  "the same likeliest token at {:.2f} % of {} places\n",
                  name, width, result.p.perplexity, other, width, result.q.perplexity,
                  result.perplexity_ratio(), result.kl_mean, result.kl_max, 100 * result.same_top,
                  result.p.logprobs.size()));
}

// Of one text in both models' words: what is compared is the next token's distribution.
void check_same_ids(const ScoreArguments& arguments, const std::string& text,
                    const Options& other_options, const std::vector<std::int32_t>& ids) {
  if (!arguments.ids.empty()) return;
  const auto tokenizer = engine::load_tokenizer(other_options.model_dir);
  if (tokenizer != nullptr && tokenizer->encode_prompt(text) != ids)
    throw Error("{} and {} make other tokens of this text: their next tokens are not comparable",
                arguments.model.model, arguments.other);
}

int run_compare(const ScoreArguments& arguments) {
  Options options = resolve(arguments.model);
  ModelArguments other{.model = arguments.other, .options = arguments.model.options};
  other.options.quantize = arguments.other_quantize;
  other.options.activations = arguments.other_activations;
  Options other_options = resolve(other);
  const auto tokenizer = engine::load_tokenizer(options.model_dir);
  const auto text = text_of(arguments);
  const auto ids = ids_to_score(arguments, text, options, tokenizer.get());
  check_same_ids(arguments, text, other_options, ids);
  // Two caches: of what this text needs, not of all that memory has.
  if (options.n_kv_blocks == 0)
    options.n_kv_blocks = other_options.n_kv_blocks =
        std::int64_t(ids.size()) / program::kBlockTokens + 1;
  engine::Session session(options);
  engine::Session other_session(other_options);
  const auto device = device::open_device({.name = options.device, .n_threads = options.n_threads});
  program::LogitComparison compare_logits(*device, session.config().vocab_size, options.model_dir,
                                          options.bundle_dir);
  const auto result = engine::compare(
      session.runner(), other_session.runner(), ids,
      [&](auto p, auto q, auto kl, auto is_same) { compare_logits(p, q, kl, is_same); });
  print_comparison(arguments, other_options, ids.size(), result);
  return 0;
}

int run_score(const ScoreArguments& arguments) {
  return arguments.other.empty() ? run_plain(arguments) : run_compare(arguments);
}

}  // namespace

void add_score(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<ScoreArguments>();
  CLI::App& command =
      *app.add_subcommand("score",
                          "Perplexity and log-probabilities of a text; with --compare, of "
                          "two models, and how far they are apart");
  command.footer(
      "\nExamples:\n  nereid score demo -f main.py\n"
      "  nereid score demo --ids 8183,315,7586 --json --logits logits.safetensors\n"
      "  nereid score demo -f main.py --compare demo --compare-quantize int4\n"
      "  nereid score path/to/model -f text.txt --compare path/to/model-fp8");
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
  auto* logits = command
                     .add_option("--logits", arguments->logits_file,
                                 "Write the logits as a safetensors file: one tensor logits "
                                 "[tokens, vocabulary], fp32, "
                                 "row t after token t")
                     ->type_name("FILE");
  auto* other =
      command
          .add_option("--compare", arguments->other,
                      "Another MODEL: both perplexities, the KL divergence of its next tokens from "
                      "those of MODEL, and how often the likeliest is the same")
          ->check(not_empty())
          ->excludes(logits)
          ->type_name("MODEL");
  command
      .add_option("--compare-quantize", arguments->other_quantize,
                  "What that model's weights are quantised to when they are loaded: int8, fp8 or "
                  "int4")
      ->needs(other)
      ->type_name("FORMAT");
  command
      .add_option("--compare-activations", arguments->other_activations,
                  "What the products of that model's fp8 weights take: as --activations")
      ->needs(other)
      ->type_name("BITS")
      ->capture_default_str();
  command.add_flag("--json", arguments->is_json, "One JSON object on stdout instead of text");
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_score(*arguments); };
  });
}

}  // namespace nereid::apps
