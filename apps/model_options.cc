#include "apps/model_options.h"

#include <charconv>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <optional>

#include "apps/checks.h"
#include "base/error.h"
#include "base/installation.h"
#include "base/mapped_file.h"
#include "base/usage_error.h"
#include "model/snapshot.h"
#include "program/attention_designs.h"

namespace nereid::apps {

namespace {

namespace fs = std::filesystem;

constexpr const char* kMachineGroup = "Machine";

// Of a model's configuration alone.
constexpr std::string_view kShape = "-shape";

// Where the models are that come with the program.
fs::path share_of_models() {
  const char* share = std::getenv("NEREID_SHARE");
  return share != nullptr && *share != '\0' ? fs::path(share) : share_dir();
}

// "llama3-8b-shape, ..."
std::string shape_names() {
  std::set<std::string> names;
  std::error_code ignored;
  for (fs::directory_iterator it(share_of_models() / "configs", ignored), end;
       !ignored && it != end; it.increment(ignored))
    if (fs::exists(it->path() / "config.json", ignored))
      names.insert(it->path().filename().string() + std::string(kShape));
  return fmt::format("{}", fmt::join(names, ", "));
}

// Nothing for what is no name of ours.
std::optional<fs::path> inside_share(const std::string& model) {
  if (model == "demo") return fs::path("models") / model;
  if (!model.ends_with(kShape) || model.find('/') != std::string::npos) return std::nullopt;
  return fs::path("configs") / model.substr(0, model.size() - kShape.size());
}

}  // namespace

void add_model(CLI::App& command, std::string& model) {
  command.add_option("MODEL", model, "A Hugging Face snapshot directory, demo, or NAME-shape")
      ->required()
      ->type_name("");
}

void add_model(CLI::App& command, ModelArguments& arguments) {
  add_model(command, arguments.model);
  command
      .add_flag(
          "--strict", arguments.options.strict,
          "Refuse fields of config.json that the model's class does not know; without it they "
          "are ignored, with a note")
      ->group(kMachineGroup);
}

CLI::Option* add_skipped_passes(CLI::App& command, std::set<std::string>& passes) {
  return command
      .add_option("--skip-pass", passes,
                  "Leave this pass of the graph compiler out; may be repeated")
      ->type_name("NAME");
}

CLI::Option* add_quantize(CLI::App& command, std::string& format) {
  return command
      .add_option("--quantize", format,
                  "What weights are quantised to when they are loaded: int8, fp8 or int4 "
                  "(docs/quantization.md); the default leaves them as they are stored")
      ->type_name("FORMAT");
}

CLI::Option* add_activations(CLI::App& command, std::string& bits) {
  return command
      .add_option("--activations", bits,
                  "What products of fp8 weights take of more than 64 rows: 16 bits, 8 (e4m3), or "
                  "auto: 8 where the checkpoint was made for it and the device multiplies such "
                  "(docs/quantization.md)")
      ->type_name("BITS")
      ->capture_default_str();
}

CLI::Option* add_kv_cache(CLI::App& command, std::string& format) {
  return command
      .add_option("--kv-cache", format,
                  "What keys and values are kept as: auto (the model's type) or fp8, which takes a "
                  "byte for each number (docs/quantization.md)")
      ->type_name("FORMAT")
      ->capture_default_str();
}

CLI::Option* add_own_ops(CLI::App& command, std::vector<std::filesystem::path>& files) {
  return command
      .add_option(
          "--op", files,
          "A Python file with an operation of your own (docs/adding_an_op.md); may be repeated")
      ->type_name("FILE")
      ->allow_extra_args(false);
}

CLI::Option* add_attention(CLI::App& command, std::string& design) {
  std::vector<std::string> names;
  for (const auto& row : program::attention_designs())
    names.push_back(fmt::format("{}{}", row.name, row.serves_prompts ? "" : " (decoding only)"));
  return command
      .add_option("--attention", design,
                  fmt::format("By which design attention is computed: {}; what one does not serve "
                              "{} does (docs/attention.md)",
                              fmt::join(names, ", "), program::kOwnAttention))
      ->type_name("NAME")
      ->capture_default_str();
}

CLI::Option* add_untuned(CLI::App& command, bool& is_tuned) {
  return command.add_flag("!--untuned", is_tuned,
                          "Kernels take their own defaults, whatever was measured for the device");
}

void add_plan_options(CLI::App& command, ModelArguments& arguments) {
  Options& options = arguments.options;
  add_model(command, arguments);
  command
      .add_option(
          "--mode", options.mode,
          "auto (the fastest the device has), eager (a kernel an operation), compiled (fused "
          "kernels), graph (fused kernels, a step replayed as one)")
      ->type_name("NAME")
      ->capture_default_str()
      ->group(kMachineGroup);
  add_quantize(command, options.quantize)->group(kMachineGroup);
  add_activations(command, options.activations)->group(kMachineGroup);
  add_kv_cache(command, options.kv_cache)->group(kMachineGroup);
  add_attention(command, options.attention)->group(kMachineGroup);
  add_skipped_passes(command, options.skip_passes)->group(kMachineGroup);
  add_untuned(command, options.is_tuned)->group(kMachineGroup);
  command
      .add_flag("--batch-invariant", options.batch_invariant,
                "The same kernels for every number of rows: an answer does not depend, to the last "
                "bit, on what else is computed; slower")
      ->group(kMachineGroup);
  command
      .add_option("--context", options.max_context_tokens,
                  "Longest prompt and answer together, in tokens; 0: the model's")
      ->check(in_range(engine::ranges::kContextTokens))
      ->capture_default_str()
      ->group(kMachineGroup);
  command
      .add_option("--max-batch-tokens", options.max_batch_tokens,
                  "Tokens computed in one step; 0: what suits the device")
      ->check(in_range(engine::ranges::kBatchTokens))
      ->capture_default_str()
      ->group(kMachineGroup);
  command
      .add_option("--max-mixed-tokens", options.max_mixed_tokens,
                  "The same of steps in which answers go on while prompts are read; 0: what suits "
                  "the device")
      ->check(in_range(engine::ranges::kBatchTokens))
      ->capture_default_str()
      ->group(kMachineGroup);
  command
      .add_option("--batch-size", options.max_sequences,
                  "Prompts computed in one step; further ones wait")
      ->check(in_range(engine::ranges::kSequences))
      ->capture_default_str()
      ->group(kMachineGroup);
}

CLI::Option* add_ranks(CLI::App& command, std::int64_t& n_ranks) {
  return command.add_option("--ranks", n_ranks, "As many devices of the target as share the model")
      ->check(in_range(engine::ranges::kRanks))
      ->capture_default_str();
}

void add_device_options(CLI::App& command, Options& options) {
  command
      .add_option("--device", options.device,
                  "Where to compute: auto, cpu, cuda[:i], null (runs no kernel); cuda:0,cuda:1 or "
                  "cpu:2: a model on two, each a part of it")
      ->type_name("NAME")
      ->capture_default_str()
      ->group(kMachineGroup);
  command.add_option("--threads", options.n_threads, "Threads of the cpu device; 0: all")
      ->check(in_range(engine::ranges::kThreads))
      ->capture_default_str()
      ->group(kMachineGroup);
  command
      .add_option(
          "--bundle", options.bundle_dir,
          "Directory of compiled kernels; without it: beside the model, then the user's cache")
      ->type_name("DIR")
      ->group(kMachineGroup);
}

void add_model_options(CLI::App& command, ModelArguments& arguments) {
  Options& options = arguments.options;
  add_plan_options(command, arguments);
  command
      .add_flag("--prefix-caching,!--no-prefix-caching", options.prefix_caching,
                "Prompts that begin as others did are not computed again (the default)")
      ->group(kMachineGroup);
  add_device_options(command, options);
  command
      .add_option("--kv-blocks", options.n_kv_blocks,
                  "Blocks of the key-value cache; 0: enough for every sequence of a batch")
      ->check(in_range(engine::ranges::kKvBlocks))
      ->capture_default_str()
      ->group(kMachineGroup);
  command
      .add_flag("--random-weights", options.random_weights,
                "Needs only config.json: random weights, for measuring speed")
      ->group(kMachineGroup);
  command
      .add_flag(
          "--check-numbers", options.check_numbers,
          "Look at what every kernel wrote (slow): where logits are not finite, the error says "
          "in which layer NaN or infinity first appeared")
      ->group(kMachineGroup);
  command
      .add_flag("--check-ranks", options.check_ranks,
                "Of a model on several devices (slow): whether all have the same bits after each "
                "exchange; where not, the error says after which")
      ->group(kMachineGroup);
  command
      .add_option("--rank-deadline", options.rank_deadline_s,
                  "Of a model on several devices: a step in which none gets on for so long fails")
      ->check(in_range(engine::ranges::kRankDeadline))
      ->capture_default_str()
      ->type_name("SECONDS")
      ->group(kMachineGroup);
  command
      .add_flag("--print-launches", options.print_launches,
                "Print the kernel launches of the first step on stderr")
      ->group(kMachineGroup);
}

fs::path model_directory(const std::string& model) {
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) {
    if (model == "demo")
      fmt::print(stderr, "nereid: demo is the directory {} here, not the bundled model\n",
                 fs::absolute(model, ignored).string());
    return model;
  }
  const auto inside = inside_share(model);
  if (!inside)
    throw Error(
        "model {} is {}; expected a Hugging Face snapshot directory "
        "(config.json, *.safetensors, tokenizer.json), or demo",
        model, model::no_directory_text(model));
  const auto path = share_of_models() / *inside;
  if (fs::exists(path / "config.json", ignored)) return path;
  if (const auto names = shape_names(); model != "demo" && !names.empty())
    throw Error("model {}: there is no such configuration; expected one of {}", model, names);
  throw Error("the model {} is not in {}; set NEREID_SHARE to the directory that holds {}", model,
              path.string(), inside->string());
}

model::ModelConfig load_config(const fs::path& directory, bool strict) {
  auto config = model::ModelConfig::load(directory);
  if (strict) config.refuse_ignored();
  if (const auto text = config.ignored_text(); !text.empty())
    fmt::print(stderr, "nereid: {}; ignored (--strict refuses them)\n", text);
  return config;
}

Options resolve(const ModelArguments& arguments) {
  Options options = arguments.options;
  options.model_dir = model_directory(arguments.model);
  load_config(options.model_dir, options.strict);
  return options;
}

std::vector<std::int32_t> parse_ids(const std::string& text) {
  std::vector<std::int32_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    while (at != end && *at == ' ') ++at;
    std::int32_t id = 0;
    const auto [rest, code] = std::from_chars(at, end, id);
    if (code != std::errc() || (rest != end && *rest != ',' && *rest != ' '))
      throw UsageError("--ids \"{}\": expected whole numbers with commas between them, as in 1,2,3",
                       text);
    ids.push_back(id);
    at = rest;
    while (at != end && *at == ' ') ++at;
    if (at == end) return ids;
    if (*at == ',') ++at;
  }
}

std::string read_input(const std::string& path) {
  if (path != "-") return read_text_file(path);
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

}  // namespace nereid::apps
