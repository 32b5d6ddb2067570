// nereid inspect: what a model is, how it is planned, what a bundle holds.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "base/error.h"
#include "device/registry.h"
#include "engine/session.h"
#include "kernel/bundle_source.h"
#include "model/architecture.h"
#include "model/checkpoint.h"
#include "model/stored_name.h"
#include "program/planner.h"

namespace nereid::apps {

namespace {

namespace fs = std::filesystem;

struct InspectArguments {
  ModelArguments model;
  std::string target = "cpu";
};

constexpr std::size_t kShortHash =
    12;  // characters of a sha256: enough to tell apart and to search for

std::string row(const std::string& name, const std::string& value) {
  return fmt::format("{:<22} {}\n", name, value);
}

std::string yes_no(bool value) { return value ? "yes" : "no"; }

// Elements and bytes of every weight; from the graph where there are no files.
struct WeightTotals {
  std::int64_t n_parameters = 0;
  std::int64_t bytes = 0;
  std::string source;
};

WeightTotals weight_totals(const fs::path& directory, const model::ModelConfig& config) {
  WeightTotals totals;
  std::optional<model::Checkpoint> checkpoint;
  if (model::Checkpoint::exists(directory))
    checkpoint = model::Checkpoint::open(directory, config.tie_word_embeddings);
  model::GraphOptions options;
  options.weight_dtype = [&](const std::string& name) {
    return checkpoint ? checkpoint->get(name).dtype : config.dtype;
  };
  options.quantization = config.quantization;
  if (checkpoint)
    options.scale_dtype = [&](const std::string& name) { return checkpoint->get(name).dtype; };
  std::set<std::string_view> needed;  // parts of one tensor are one
  const auto graph = model::build_graph(config, options);
  for (const auto& value : graph.values) {
    // The rotary frequencies are computed, not learnt.
    if (value.kind != graph::ValueKind::weight || model::names::is_computed(value.name)) continue;
    std::int64_t n_elements = 1;
    for (const auto& dim : value.shape) n_elements *= dim.offset;
    if (model::stored_name(value.name).part <= model::StoredPart::one_plus)
      totals.n_parameters += value.dtype == DType::u8 ? 2 * n_elements : n_elements;
    totals.bytes += n_elements * std::int64_t(dtype_size_bytes(value.dtype));
    needed.insert(model::stored_name(value.name).tensor);
  }
  const auto n_needed = needed.size();
  if (!checkpoint)
    totals.source = "config.json alone, no weights here";
  else if (config.quantization)
    totals.source = fmt::format("safetensors files, quantised ({})", config.quantization->name);
  else
    totals.source = fmt::format(
        "{} tensors in safetensors files{}", n_needed,
        checkpoint->n_tensors() > n_needed
            ? fmt::format(", {} more there that are not needed", checkpoint->n_tensors() - n_needed)
            : "");
  return totals;
}

// Which tokens end a text, and which file says so.
std::string end_text(const fs::path& directory, const model::GenerationSettings& settings) {
  if (settings.eos_source.empty()) return "none named; a text ends at its longest";
  std::unique_ptr<const tokenizer::Tokenizer> tokenizer;
  if (settings.eos_ids.empty()) tokenizer = engine::load_tokenizer(directory);
  const auto ids = engine::end_ids(settings, tokenizer.get());
  if (ids.empty())
    return fmt::format("none: {} of {} is no token of tokenizer.json", settings.eos_token,
                       settings.eos_source);
  return fmt::format("{} ({})", fmt::join(ids, ", "), settings.eos_source);
}

std::string sampling_text(const model::GenerationSettings& settings) {
  if (settings.sampling.empty()) return "greedy unless asked; nothing suggested";
  std::string text = "greedy unless asked; suggested:";
  const auto& all = settings.sampling;
  for (std::size_t i = 0; i < all.size(); ++i) {
    text += fmt::format(" {} {}", all[i].name, all[i].value);
    const bool is_last_of_source = i + 1 == all.size() || all[i + 1].source != all[i].source;
    if (is_last_of_source) text += fmt::format(" ({})", all[i].source);
    if (i + 1 < all.size()) text += ",";
  }
  return text;
}

std::string windows_text(const model::ModelConfig& config) {
  std::int64_t n_windowed = 0;
  std::int64_t widest = 0;
  for (std::int64_t layer = 0; layer < config.n_layers; ++layer) {
    n_windowed += config.layer_window(layer) > 0;
    widest = std::max(widest, config.layer_window(layer));
  }
  if (n_windowed == 0) return "none";
  return fmt::format("{} tokens in {} of {} layers", widest, n_windowed, config.n_layers);
}

std::string norms_text(const model::ModelConfig& config) {
  const auto places = [&] {
    switch (config.norm_places) {
      case model::NormPlaces::before:
        return "before attention and MLP";
      case model::NormPlaces::after:
        return "after attention and MLP";
      case model::NormPlaces::around:
        return "before and after attention and MLP";
    }
    NEREID_UNREACHABLE("places {}", static_cast<int>(config.norm_places));
  };
  return fmt::format("{}{}", places(), config.norms_one_plus ? ", factors 1 + weight" : "");
}

std::string qk_norm_text(model::QkNorm norm) {
  switch (norm) {
    case model::QkNorm::none:
      return "no";
    case model::QkNorm::head:
      return "yes, of each head";
    case model::QkNorm::row:
      return "yes, of all heads together";
  }
  NEREID_UNREACHABLE("norm {}", static_cast<int>(norm));
}

std::string softcaps_text(const model::ModelConfig& config) {
  const auto text = [](double cap) { return cap == 0.0 ? "no" : fmt::format("{}", cap); };
  return fmt::format("scores {}, logits {}", text(config.attention_softcap),
                     text(config.logits_softcap));
}

std::string rope_text(const model::RopeConfig& rope) {
  std::string text = fmt::format("{}, theta {}", model::rope_type_name(rope.type), rope.theta);
  if (rope.factor != 1.0) text += fmt::format(", factor {}", rope.factor);
  return text;
}

int run_model(const InspectArguments& arguments) {
  const fs::path directory = model_directory(arguments.model.model);
  const auto config = load_config(directory, arguments.model.options.strict);
  const WeightTotals totals = weight_totals(directory, config);
  // Keys and values of every layer, in the cache's element type.
  const std::int64_t kv_bytes = 2 * config.n_layers * config.n_kv_heads * config.head_dim *
                                std::int64_t(dtype_size_bytes(config.dtype));
  std::string text;
  text += row("model", directory.string());
  text += row("architecture", config.architecture);
  text += row("parameters",
              fmt::format("{} ({:.1f} M)", totals.n_parameters, double(totals.n_parameters) / 1e6));
  text += row("weights", fmt::format("{} bytes ({:.1f} MB), {}", totals.bytes,
                                     double(totals.bytes) / 1e6, totals.source));
  text += row("dtype", std::string(dtype_name(config.dtype)));
  text += row("context", fmt::format("{} tokens", config.max_context_tokens));
  text += row("KV cache", fmt::format("{} bytes a token, {:.1f} MB for a full context", kv_bytes,
                                      double(kv_bytes * config.max_context_tokens) / 1e6));
  text += row("vocabulary", std::to_string(config.vocab_size));
  text += row("layers", std::to_string(config.n_layers));
  text += row("hidden size", std::to_string(config.hidden_size));
  text += row("intermediate size", std::to_string(config.intermediate_size));
  text += row("heads", fmt::format("{} of {}, {} for keys and values", config.n_heads,
                                   config.head_dim, config.n_kv_heads));
  text += row("biases", fmt::format("attention {}, attention output {}, MLP {}",
                                    yes_no(config.attention_bias),
                                    yes_no(config.attention_out_bias), yes_no(config.mlp_bias)));
  text += row("norms", norms_text(config));
  text += row("q and k norm", qk_norm_text(config.qk_norm));
  text += row("activation", config.activation == model::Activation::silu ? "silu" : "gelu_tanh");
  text += row("soft caps", softcaps_text(config));
  text += row("sliding window", windows_text(config));
  text += row("rotary positions", rope_text(config.rope));
  if (config.window_rope) text += row("rotary, with a window", rope_text(*config.window_rope));
  text += row("tied head", yes_no(config.tie_word_embeddings));
  text += row("end-of-text ids", end_text(directory, config.generation));
  text += row("sampling", sampling_text(config.generation));
  text += row("tokenizer", fs::exists(directory / "tokenizer.json") ? "tokenizer.json" : "none");
  write_out(text);
  return 0;
}

kernel::Bundle bundle_of(const InspectArguments& arguments) {
  if (fs::exists(fs::path(arguments.model.model) / "manifest.json"))
    return kernel::Bundle::open(arguments.model.model);
  const Options options = resolve(arguments.model);
  const auto config = model::ModelConfig::load(options.model_dir);
  const auto tables = program::KernelTables::builtin(options.is_tuned);
  const auto requests =
      program::requests_for(config, program::resolve(config, options, arguments.target), tables);
  std::string isa;
  if (arguments.target == "cpu")
    isa = device::open_device({.name = "cpu", .n_threads = 1})->info().isa;
  return kernel::find_bundle(tables.specs, arguments.target, isa, requests,
                             {.model_dir = options.model_dir,
                              .bundle_dir = {},
                              .command = "nereid compile " + arguments.model.model,
                              .may_compile = false});
}

std::string count_text(const std::optional<std::int64_t>& count) {
  return count ? std::to_string(*count) : "-";
}

std::string constexprs_text(const kernel::KernelRequest& request) {
  std::string text;
  for (const auto& [name, value] : request.constexprs) text += fmt::format(" {}={}", name, value);
  return text;
}

std::string args_text(const kernel::Variant& variant) {
  std::string text;
  for (const auto& arg : variant.args) {
    const auto type = variant.request.args.find(arg.name);
    text += fmt::format(" {}:{}", arg.name,
                        type != variant.request.args.end()
                            ? type->second
                            : std::string(device::arg_type_row(arg.type).name));
  }
  return text;
}

int run_bundle(const InspectArguments& arguments) {
  const kernel::Bundle bundle = bundle_of(arguments);
  std::string text;
  text += row("bundle", bundle.dir().string());
  text += row("target", kernel::target_text(bundle));
  text += row("Triton", bundle.triton());
  text += row("compiler", bundle.compiler());
  text += row("variants", std::to_string(bundle.variants().size()));
  std::vector<const kernel::Variant*> variants;
  for (const auto& variant : bundle.variants()) variants.push_back(&variant);
  std::ranges::sort(variants, {}, [](const auto* variant) {
    return std::pair(variant->request.kernel, variant->key);
  });
  for (const auto* variant : variants) {
    text += fmt::format("\n{}\n", variant->request.kernel);
    text += row("  symbol", variant->symbol);
    text += row("  object sha256", variant->object_sha256.substr(0, kShortHash));
    text += row("  Triton source sha256", variant->source_sha256.substr(0, kShortHash));
    if (!variant->source.empty()) text += row("  generated source", variant->source);
    text += row("  warps, stages",
                fmt::format("{}, {}", variant->num_warps, variant->request.num_stages));
    text += row("  shared bytes", std::to_string(variant->shared_bytes));
    if (variant->arena_bytes > 0)
      text += row("  arena bytes", std::to_string(variant->arena_bytes));
    text += row("  registers, spills",
                fmt::format("{}, {}", count_text(variant->registers), count_text(variant->spills)));
    text +=
        row("  constexprs",
            constexprs_text(variant->request).substr(variant->request.constexprs.empty() ? 0 : 1));
    text += row("  arguments", args_text(*variant).substr(variant->args.empty() ? 0 : 1));
  }
  write_out(text);
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Command& chosen) {
  CLI::App& command =
      *app.add_subcommand("inspect", "Show a model, its plan, or a bundle of kernels");
  command.footer(
      "\nExamples:\n  nereid inspect model demo\n  nereid inspect plan demo --target cuda:90\n"
      "  nereid inspect bundle demo");
  command.require_subcommand(1);

  auto model_arguments = std::make_shared<InspectArguments>();
  CLI::App& model = *command.add_subcommand("model", "Configuration, parameters, memory");
  add_model(model, model_arguments->model);
  model.callback([model_arguments, &chosen] {
    chosen = [model_arguments](const Environment&) { return run_model(*model_arguments); };
  });

  add_inspect_plan(command, chosen);
  add_inspect_graph(command, chosen);
  add_inspect_trace(command, chosen);

  auto bundle_arguments = std::make_shared<InspectArguments>();
  CLI::App& bundle = *command.add_subcommand(
      "bundle", "Each compiled kernel: symbol, hashes of object and Triton source, registers");
  add_plan_options(bundle, bundle_arguments->model);
  bundle.get_option("MODEL")->description(
      "A bundle's directory, or a model whose bundle is looked for");
  bundle
      .add_option("--target", bundle_arguments->target,
                  "Of a model's bundle: cpu, cuda:80, cuda:90, hip:gfx942")
      ->type_name("NAME")
      ->capture_default_str();
  bundle.callback([bundle_arguments, &chosen] {
    chosen = [bundle_arguments](const Environment&) { return run_bundle(*bundle_arguments); };
  });
}

}  // namespace nereid::apps
