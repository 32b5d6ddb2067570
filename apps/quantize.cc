// nereid quantize: a model with weights of fewer bits, as a snapshot of compressed-tensors.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "apps/checks.h"
#include "apps/commands.h"
#include "apps/model_options.h"
#include "apps/output.h"
#include "base/error.h"
#include "device/registry.h"
#include "engine/ranges.h"
#include "program/quantize_model.h"

namespace nereid::apps {

namespace {

constexpr double kBytesPerMb = 1e6;

struct QuantizeArguments {
  ModelArguments model;
  std::string format;
  std::string out_dir;
  bool has_head = false;
  int max_shard_mb = 5000;
};

int run_quantize(const QuantizeArguments& arguments) {
  const Options options = resolve(arguments.model);
  const auto config = model::ModelConfig::load(options.model_dir);
  const auto device = device::open_device({.name = options.device, .n_threads = options.n_threads});
  const InterruptFlag interrupted;
  const auto report = program::quantize_model(
      *device, config,
      {.model_dir = options.model_dir,
       .out_dir = arguments.out_dir,
       .format = arguments.format,
       .has_head = arguments.has_head,
       .max_shard_bytes = std::int64_t(arguments.max_shard_mb) * std::int64_t(kBytesPerMb),
       .bundle_dir = options.bundle_dir},
      [&](std::string_view, std::int64_t, std::int64_t) {
        if (interrupted.is_set()) throw Error("interrupted; nothing was written");
      });
  fmt::print(stderr,
             "{}: {} weights in {}, {} tensors as they were; {:.1f} MB in place of {:.1f}, in {} "
             "file{}\n",
             arguments.out_dir, report.n_quantized, arguments.format, report.n_kept,
             double(report.bytes_after) / kBytesPerMb, double(report.bytes_before) / kBytesPerMb,
             report.n_shards, report.n_shards == 1 ? "" : "s");
  return 0;
}

}  // namespace

void add_quantize(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<QuantizeArguments>();
  CLI::App& command = *app.add_subcommand("quantize", "Write a model with weights of fewer bits");
  command.footer(
      "\nWrites a snapshot in the format of compressed-tensors (docs/quantization.md).\n"
      "`nereid score MODEL -f FILE --compare DIR` says what it costs.\n"
      "Examples:\n  nereid quantize demo --to int4 --out demo-int4\n"
      "  nereid quantize path/to/Llama-3.1-8B --to fp8 --out Llama-3.1-8B-fp8 --device cuda");
  add_model(command, arguments->model);
  command.add_option("--to", arguments->format, "int8, fp8 or int4")
      ->required()
      ->type_name("FORMAT");
  command.add_option("--out", arguments->out_dir, "The model's directory: a new or empty one")
      ->required()
      ->check(not_empty())
      ->type_name("DIR");
  command.add_flag("--head", arguments->has_head,
                   "Quantise the head too, which not every engine reads; not of int4");
  command
      .add_option("--shard-mb", arguments->max_shard_mb,
                  "Most megabytes of a file of weights; a larger tensor has its own")
      ->check(in_range(engine::ranges::kCount))
      ->capture_default_str();
  add_device_options(command, arguments->model.options);
  command.callback([arguments, &chosen] {
    chosen = [arguments](const Environment&) { return run_quantize(*arguments); };
  });
}

}  // namespace nereid::apps
