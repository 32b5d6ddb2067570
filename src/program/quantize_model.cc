#include "program/quantize_model.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/usage_error.h"
#include "kernel/bundle_source.h"
#include "model/architecture.h"
#include "model/checkpoint.h"
#include "model/quantization_config.h"
#include "model/snapshot_writer.h"
#include "model/stored_name.h"
#include "program/quantized_weights.h"
#include "program/staging.h"
#include "program/weight_kernels.h"

namespace nereid::program {

namespace {

namespace fs = std::filesystem;
using model::TensorPlace;

// What a model's folder has beside config.json and weights, where it has it.
constexpr std::array kCopied{"tokenizer.json",
                             "tokenizer_config.json",
                             "tokenizer.model",
                             "vocab.json",
                             "merges.txt",
                             "added_tokens.json",
                             "special_tokens_map.json",
                             "chat_template.jinja",
                             "chat_template.json",
                             "additional_chat_templates",
                             "generation_config.json",
                             "LICENSE",
                             "LICENSE.txt",
                             "LICENSE.md",
                             "NOTICE",
                             "NOTICE.txt",
                             "USE_POLICY.md"};

using DTypeOf = std::function<DType(const std::string& tensor)>;

// A tensor [n_out, n_in] that becomes several.
struct Stored {
  std::string module;  // "model.layers.0.mlp.up_proj"
  model::WeightFormat format;
  DType source = DType::fp16;
  std::int64_t n_out = 0, n_in = 0;

  std::string tensor() const { return module + ".weight"; }
  QuantizeProblem quantize() const { return {source, format, n_in}; }
  PackProblem pack() const { return {format.dtype, n_in}; }
};

// What is written, and what it takes.
struct Plan {
  Json quantization;
  bool is_packed = false;  // in words
  std::vector<Stored> quantized;
  std::vector<std::string> kept;
};

model::GraphOptions graph_options(const model::ModelConfig& config, const DTypeOf& dtype_of) {
  model::GraphOptions options;
  options.activation = config.dtype;
  options.kv_cache = config.dtype;
  options.weight_dtype = dtype_of;
  return options;
}

// Columns that share a scale, in every row of the model.
std::int64_t common_group(const graph::Graph& graph) {
  const auto divides_all = [&](std::int64_t group) {
    return std::ranges::all_of(graph.nodes, [&](const graph::Node& node) {
      if (node.op != graph::Op::linear) return true;
      return graph.value(node.operand("weight")).shape[1].offset % group == 0;
    });
  };
  const auto* group = std::ranges::find_if(model::kGroups, divides_all);
  if (group == model::kGroups.end())
    throw Error(
        "this model has weights whose rows are no multiple of 32 columns, which int4 takes in "
        "groups: quantise it to int8 or fp8");
  return *group;
}

Plan make_plan(model::ModelConfig config, const std::string& format, bool has_head,
               const DTypeOf& dtype_of) {
  if (config.quantization)
    throw Error(
        "this model's weights are quantised already ({}): quantise the one that it was made from",
        config.quantization->name);
  if (has_head && format == "int4")
    throw UsageError(
        "a head of 4 bits costs more than it saves: int4 leaves it as it is; take int8 or fp8 for "
        "a quantised one");
  // Quantised, it is no longer the embedding.
  if (has_head) config.tie_word_embeddings = false;
  auto options = graph_options(config, dtype_of);
  const auto group =
      format == "int4" ? common_group(model::build_graph(config, options)) : std::int64_t{0};
  Plan plan{.quantization = model::quantization_config(format, group, has_head),
            .is_packed = false,
            .quantized = {},
            .kept = {}};
  // As whoever loads the result reads it.
  options.quantization =
      model::Quantization::parse(plan.quantization, "the quantised model", config.dtype);
  plan.is_packed = options.quantization->packing == model::WeightPacking::compressed;
  const auto graph = model::build_graph(config, options);
  std::set<std::string, std::less<>> done;
  for (const auto& weight : quantized_weights(graph)) {
    Stored stored{.module = weight.module(),
                  .format = weight.format,
                  .source = dtype_of(weight.module() + ".weight"),
                  .n_out = weight.n_stored(),
                  .n_in = weight.n_in};
    if (done.insert(stored.tensor()).second) plan.quantized.push_back(std::move(stored));
  }
  for (const auto& value : graph.values) {
    if (value.kind != graph::ValueKind::weight || model::names::is_computed(value.name)) continue;
    const std::string tensor(model::stored_name(value.name).tensor);
    if (done.insert(tensor).second) plan.kept.push_back(tensor);
  }
  return plan;
}

// In the order in which their bytes are written.
model::SnapshotWriter::Group places_of(const Plan& plan, const Stored& stored, DType scale) {
  const auto of = [&](const char* part) { return fmt::format("{}.{}", stored.module, part); };
  const TensorPlace scales{of("weight_scale"), scale, {stored.n_out, stored.format.n_groups}};
  if (!plan.is_packed)
    return {{of("weight"), stored.format.dtype, {stored.n_out, stored.n_in}}, scales};
  return {{of("weight_packed"), DType::i32, {stored.n_out, stored.pack().n_words()}},
          scales,
          {of("weight_shape"), DType::i64, {2}}};
}

std::vector<kernel::KernelRequest> requests_of(const Plan& plan, const std::string& target,
                                               const KernelTables& tables) {
  std::map<std::string, kernel::KernelRequest> by_key;
  const auto add = [&](kernel::KernelRequest request) {
    auto key = request.key();
    by_key.try_emplace(std::move(key), std::move(request));
  };
  for (const auto& stored : plan.quantized) {
    add(stored.quantize().request(target, tables));
    if (plan.is_packed) add(stored.pack().request(target, tables));
  }
  std::vector<kernel::KernelRequest> requests;
  for (auto& [key, request] : by_key) requests.push_back(std::move(request));
  return requests;
}

class Writing {
 public:
  Writing(device::Device& device, const model::Checkpoint& checkpoint, WeightKernels& kernels,
          model::SnapshotWriter& writer)
      : device_(device),
        checkpoint_(checkpoint),
        kernels_(kernels),
        writer_(writer),
        staging_(device) {}

  void keep(const std::string& name) {
    const auto tensor = checkpoint_.get(name);
    for_pieces(tensor, 1, tensor.bytes.size(),
               [&](std::span<const std::byte> piece, std::size_t) { writer_.write(piece); });
  }

  void quantize(const Plan& plan, const Stored& stored) {
    const auto source = checkpoint_.get(stored.tensor());
    const auto n_all = static_cast<std::size_t>(stored.n_out);
    const auto scale_row_bytes =
        static_cast<std::size_t>(stored.format.n_groups) * dtype_size_bytes(stored.format.scale);
    const auto q_row_bytes = static_cast<std::size_t>(stored.format.n_columns(stored.n_in));
    const auto word_row_bytes =
        static_cast<std::size_t>(stored.pack().n_words()) * sizeof(std::int32_t);
    const auto row_bytes = static_cast<std::size_t>(stored.n_in) * dtype_size_bytes(stored.source);
    std::vector<std::byte> scales(n_all * scale_row_bytes);
    std::size_t row = 0;
    for_pieces(source, row_bytes, n_all, [&](std::span<const std::byte> piece, std::size_t n) {
      const auto q = room(q_, n * q_row_bytes);
      const auto scale = room(scale_, n * scale_row_bytes);
      const auto n_rows = static_cast<std::int64_t>(n);
      kernels_.quantize(stored.quantize(), staging_.address_of(piece), n_rows, q, scale);
      const auto made_row_bytes = plan.is_packed ? word_row_bytes : q_row_bytes;
      auto made = q;
      if (plan.is_packed) {
        made = room(words_, n * word_row_bytes);
        kernels_.pack(stored.pack(), q, n_rows, made);
      }
      host_.resize(n * made_row_bytes);
      device_.download(host_, made);
      device_.download(std::span(scales).subspan(row * scale_row_bytes, n * scale_row_bytes),
                       scale);
      kernels_.refuse_bad(stored.tensor());
      writer_.write(host_);
      row += n;
    });
    writer_.write(scales);
    const std::array<std::int64_t, 2> shape{stored.n_out, stored.n_in};
    if (plan.is_packed) writer_.write(std::as_bytes(std::span(shape)));
  }

 private:
  // Some rows after another, which are not read again.
  template <typename Use>
  void for_pieces(const HostTensor& tensor, std::size_t row_bytes, std::size_t n_rows,
                  const Use& use) {
    const auto n_each = staged_rows(row_bytes);
    for (std::size_t row = 0; row < n_rows; row += n_each) {
      const auto n = std::min(n_each, n_rows - row);
      const auto piece = tensor.bytes.subspan(row * row_bytes, n * row_bytes);
      use(piece, n);
      checkpoint_.release({tensor.dtype, {}, piece});
    }
  }

  device::Address room(device::Buffer& buffer, std::size_t n_bytes) {
    if (buffer.size_bytes() < n_bytes) {
      buffer = {};
      buffer = device_.allocate(n_bytes, "quantised weights");
    }
    return buffer.address();
  }

  device::Device& device_;
  const model::Checkpoint& checkpoint_;
  WeightKernels& kernels_;
  model::SnapshotWriter& writer_;
  Staging staging_;
  device::Buffer q_, scale_, words_;
  std::vector<std::byte> host_;
};

// What was, and what is said of the weights now.
Json changed_config(const QuantizeOptions& options, const Json& quantization) {
  auto config = read_json_file(options.model_dir / "config.json");
  config["quantization_config"] = quantization;
  if (options.has_head) config["tie_word_embeddings"] = false;
  return config;
}

void check_shape(const Stored& stored, const HostTensor& source) {
  if (const Shape wanted{stored.n_out, stored.n_in}; source.shape != wanted)
    throw Error("{}: expected shape {} from config.json, got {}", stored.tensor(),
                shape_text(wanted), shape_text(source.shape));
}

}  // namespace

QuantizeReport quantize_model(device::Device& device, const model::ModelConfig& config,
                              const QuantizeOptions& options, const ProgressSink& progress) {
  const auto& info = device.info();
  if (info.name == "null")
    throw UsageError("device null computes nothing; expected cpu or cuda to quantise on");
  const auto checkpoint = model::Checkpoint::open(options.model_dir, config.tie_word_embeddings);
  const auto dtype_of = [&](const std::string& name) { return checkpoint.get(name).dtype; };
  const auto plan = make_plan(config, options.format, options.has_head, dtype_of);

  QuantizeReport report{.n_quantized = plan.quantized.size(), .n_kept = plan.kept.size()};
  std::vector<model::SnapshotWriter::Group> groups;
  for (const auto& name : plan.kept) {
    const auto tensor = checkpoint.get(name);
    groups.push_back({{name, tensor.dtype, tensor.shape}});
    report.bytes_before += tensor.bytes.size();
  }
  for (const auto& stored : plan.quantized) {
    const auto source = checkpoint.get(stored.tensor());
    check_shape(stored, source);
    groups.push_back(places_of(plan, stored, stored.format.scale));
    report.bytes_before += source.bytes.size();
  }
  model::SnapshotWriter writer(options.out_dir, groups, options.max_shard_bytes);

  const auto tables = KernelTables::builtin(true, info.target);
  auto bundle = kernel::find_bundle(
      tables.specs, info.target, info.isa, requests_of(plan, info.target, tables),
      {.model_dir = options.model_dir,
       .bundle_dir = options.bundle_dir,
       .command = fmt::format("nereid compile {} --quantize {}", options.model_dir.string(),
                              options.format)});
  WeightKernels kernels(device, bundle, tables);
  Writing writing(device, checkpoint, kernels, writer);
  const auto n_all = std::ssize(groups);
  std::int64_t n_done = 0;
  const auto note = [&] {
    if (progress) progress("quantising", ++n_done, n_all);
  };
  for (const auto& name : plan.kept) {
    writing.keep(name);
    note();
  }
  for (const auto& stored : plan.quantized) {
    writing.quantize(plan, stored);
    note();
  }
  for (const char* name : kCopied)
    if (fs::exists(options.model_dir / name)) writer.copy(options.model_dir / name);
  writer.write_json("config.json", changed_config(options, plan.quantization));
  report.bytes_after = writer.tensor_bytes();
  report.n_shards = writer.n_shards();
  writer.finish();
  return report;
}

std::vector<kernel::KernelRequest> quantize_model_requests(const model::ModelConfig& config,
                                                           const std::string& format,
                                                           const std::string& target,
                                                           const KernelTables& tables) {
  return requests_of(
      make_plan(config, format, false, [&](const std::string&) { return config.dtype; }), target,
      tables);
}

}  // namespace nereid::program
