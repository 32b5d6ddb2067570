// How much of a device's memory an 8B model takes, in every format of weights and of the cache, by
// what the null device was asked for: little beside weights, cache and activations; and while
// weights are loaded no more than them and a piece on its way, so never a matrix of floats twice.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "device/null/null_device.h"
#include "null/stand_in_bundle.h"
#include "program/program.h"

namespace nereid::program {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTarget = "cuda:90";
constexpr std::size_t kDeviceBytes = std::size_t{141} << 30;
// Llama3-8B: [N, K] of a layer's products.
constexpr std::int64_t kHidden = 4096, kInner = 14336, kKeys = 1024, kVocab = 128256;
std::vector<std::pair<std::string, std::array<std::int64_t, 2>>> matrices(
    std::int64_t inner = kInner) {
  return {{"self_attn.q_proj", {kHidden, kHidden}}, {"self_attn.k_proj", {kKeys, kHidden}},
          {"self_attn.v_proj", {kKeys, kHidden}},   {"self_attn.o_proj", {kHidden, kHidden}},
          {"mlp.gate_proj", {inner, kHidden}},      {"mlp.up_proj", {inner, kHidden}},
          {"mlp.down_proj", {kHidden, inner}}};
}
constexpr std::int64_t kGroup = 128;
// A piece of weights on its way (docs/quantization.md), and what is small.
constexpr std::int64_t kPieceBytes = std::int64_t{64} << 20;
constexpr std::int64_t kSmallBytes = std::int64_t{1} << 20;
// The activations of 2,048 tokens: gate and up together are 117 MB.
constexpr std::int64_t kStepBytes = std::int64_t{128} << 20;

fs::path shape() { return fs::path(NEREID_SOURCE_DIR) / "configs" / "llama3-8b"; }

// As docs/quantization.md says that they lie in memory.
std::int64_t matrix_bytes(std::string_view format, std::int64_t n_out, std::int64_t n_in) {
  if (format.empty()) return 2 * n_out * n_in;
  if (format == "int4") return n_out * n_in / 2 + 2 * n_out * n_in / kGroup;
  return n_out * n_in + 4 * n_out;
}

std::int64_t weight_bytes(std::string_view format, std::string_view head, std::int64_t n_layers) {
  std::int64_t of_layer = 2 * 2 * kHidden;  // norms
  for (const auto& [name, size] : matrices()) of_layer += matrix_bytes(format, size[0], size[1]);
  return n_layers * of_layer + 2 * kHidden + 2 * kVocab * kHidden +
         matrix_bytes(head, kVocab, kHidden);
}

// What the device gave out by its log.
struct Taken {
  std::int64_t peak = 0;
  std::int64_t peak_of_loading = 0;  // before there are activations
  std::map<std::string, std::int64_t> by_purpose;
};

Taken taken(const device::NullDevice& device) {
  Taken result;
  std::int64_t now = 0;
  for (const auto& event : device.log()) {
    const auto n_bytes = static_cast<std::int64_t>(event.size_bytes);
    if (event.operation == device::NullOperation::allocate) {
      if (event.name == "activations" && result.peak_of_loading == 0)
        result.peak_of_loading = result.peak;
      now += n_bytes;
      result.by_purpose[event.name] += n_bytes;
    } else if (event.operation == device::NullOperation::release) {
      now -= n_bytes;
    }
    result.peak = std::max(result.peak, now);
  }
  return result;
}

struct Format {
  const char* weights;
  const char* cache;
  std::string name() const {
    return fmt::format("{}_cache_{}", *weights == '\0' ? "fp16" : weights, cache);
  }
};

class MemoryUseOf : public testing::TestWithParam<Format> {};

// One sequence of 512 tokens, which leaves nothing to hide behind; then many.
TEST_P(MemoryUseOf, IsWeightsCacheAndActivations) {
  const auto& format = GetParam();
  for (const auto& [n_sequences, n_blocks] : {std::pair(1, 8), {64, 512}}) {
    Options options{.model_dir = shape(),
                    .quantize = format.weights,
                    .kv_cache = format.cache,
                    .max_context_tokens = 512,
                    .max_sequences = n_sequences,
                    .n_kv_blocks = n_blocks,
                    .random_weights = true};
    const StandInBundle bundle(options.model_dir, options, kTarget);
    options.bundle_dir = bundle.dir();
    device::NullDevice device(kTarget, kDeviceBytes, 132);
    const auto config = model::ModelConfig::load(options.model_dir);
    Program program(device, config, options);
    program.warm();

    const auto use = program.memory_use();
    const auto log = taken(device);
    const std::string_view head =
        format.weights == std::string_view("int4") ? "int8" : format.weights;
    const auto weights = weight_bytes(format.weights, head, config.n_layers);
    EXPECT_NEAR(double(use.weight_bytes), double(weights), 1e-3 * double(weights));
    const std::int64_t cache = std::int64_t{n_blocks} * 64 * 2 * config.n_layers * kKeys *
                               (format.cache == std::string_view("fp8") ? 1 : 2);
    EXPECT_EQ(use.cache_bytes, cache);
    EXPECT_EQ(use.activation_bytes, log.by_purpose.at("activations"));
    // A layer's widest product may be there in 16 bits while it is computed with, the head never.
    EXPECT_LE(use.activation_bytes,
              kStepBytes + (*format.weights == '\0' ? 0 : 2 * 2 * kInner * kHidden));
    EXPECT_EQ(use.peak_bytes, log.peak);
    const auto sum = weights + cache + use.activation_bytes;
    EXPECT_LE(double(log.peak), 1.02 * double(sum));
    EXPECT_GE(log.peak, sum);
    EXPECT_LE(log.peak_of_loading, weights + kPieceBytes + kSmallBytes);
    fmt::print(
        "{} sequences: peak {:.1f} MB: weights {:.1f}, cache {:.1f}, activations {:.1f}, other "
        "{:.1f}; loading {:.1f}\n",
        n_sequences, double(log.peak) / 1e6, double(use.weight_bytes) / 1e6,
        double(use.cache_bytes) / 1e6, double(use.activation_bytes) / 1e6,
        double(use.other_bytes()) / 1e6, double(log.peak_of_loading) / 1e6);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, MemoryUseOf,
                         testing::Values(Format{"", "auto"}, Format{"", "fp8"},
                                         Format{"int8", "auto"}, Format{"int8", "fp8"},
                                         Format{"fp8", "auto"}, Format{"fp8", "fp8"},
                                         Format{"int4", "auto"}, Format{"int4", "fp8"}),
                         [](const auto& param) { return param.param.name(); });

TEST(Activations, HaveRoomForEveryStep) {
  const auto tables = KernelTables::builtin();
  const auto config = representative(model::ModelConfig::load(shape()));
  for (const char* target : {kTarget, "cpu"})
    for (const char* format : {"", "int8", "int4"})
      for (const auto& [n_sequences, n_tokens] : {std::pair(1, 2048), {3, 200}, {64, 512}}) {
        Options options{.model_dir = shape(),
                        .quantize = format,
                        .max_batch_tokens = n_tokens,
                        .max_sequences = n_sequences};
        const Planner planner(config, resolve(config, options, target), tables);
        const auto room = planner.plan(planner.largest_class()).memory.arena_bytes;
        for (const auto tail : kTails)
          for (std::size_t tokens = 0; tokens <= bucket_of(n_tokens); ++tokens)
            for (std::size_t logits = 0; logits <= bucket_of(n_sequences); ++logits)
              for (const bool is_decode : {false, true}) {
                if (is_decode && tokens > bucket_of(n_sequences)) continue;
                EXPECT_LE(planner.plan({tail, is_decode, tokens, logits}).memory.arena_bytes, room)
                    << fmt::format("{} {}, {} sequences, {} tokens: tail {}, buckets {} and {}{}",
                                   target, format, n_sequences, n_tokens, static_cast<int>(tail),
                                   tokens, logits, is_decode ? ", decode" : "");
              }
      }
}

// A snapshot of few layers whose files are holes: nobody reads what they hold but scales.
class HollowModel {
 public:
  explicit HollowModel(std::int64_t inner = kInner, const Json& quantization = {}) : inner_(inner) {
    auto dir = (fs::path(testing::TempDir()) / "nereid-hollow-XXXXXX").string();
    NEREID_CHECK(::mkdtemp(dir.data()) != nullptr, "no folder {}", dir);
    dir_ = dir;
    std::ifstream file(shape() / "config.json");
    Json config = Json::parse(file);
    config["num_hidden_layers"] = kNLayers;
    config["intermediate_size"] = inner;
    if (!quantization.is_null()) config["quantization_config"] = quantization;
    std::ofstream(dir_ / "config.json") << config.dump();
  }
  ~HollowModel() { fs::remove_all(dir_); }
  HollowModel(const HollowModel&) = delete;
  HollowModel& operator=(const HollowModel&) = delete;

  static constexpr std::int64_t kNLayers = 2;
  const fs::path& dir() const { return dir_; }
  std::int64_t inner() const { return inner_; }

  void add(const std::string& name, const char* dtype, const std::vector<std::int64_t>& shape,
           std::int64_t element_bytes) {
    std::int64_t n_bytes = element_bytes;
    for (const auto size : shape) n_bytes *= size;
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {end_, end_ + n_bytes}}};
    end_ += n_bytes;
  }
  // The same 16 bits all over.
  void add_filled(const std::string& name, const std::vector<std::int64_t>& shape,
                  std::uint16_t element) {
    filled_.emplace_back(name, element);
    add(name, "F16", shape, 2);
  }
  void add_all_but_products() {
    for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
      add(name, "F16", {kVocab, kHidden}, 2);
    add("model.norm.weight", "F16", {kHidden}, 2);
    for (std::int64_t layer = 0; layer < kNLayers; ++layer)
      for (const char* name : {"input_layernorm", "post_attention_layernorm"})
        add(fmt::format("model.layers.{}.{}.weight", layer, name), "F16", {kHidden}, 2);
  }

  void write() const {
    std::string text = header_.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const auto path = dir_ / "model.safetensors";
    std::uint64_t header_bytes = text.size();
    std::ofstream(path) << std::string_view(reinterpret_cast<char*>(&header_bytes), 8) << text;
    fs::resize_file(path, 8 + header_bytes + static_cast<std::uint64_t>(end_));
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (const auto& [name, element] : filled_) {
      const auto& offsets = header_.at(name).at("data_offsets");
      const auto begin = offsets[0].get<std::int64_t>(), end = offsets[1].get<std::int64_t>();
      const std::vector<std::uint16_t> elements(static_cast<std::size_t>(end - begin) / 2, element);
      file.seekp(static_cast<std::streamoff>(8 + header_bytes) + begin);
      file.write(reinterpret_cast<const char*>(elements.data()), end - begin);
    }
  }

 private:
  std::int64_t inner_;
  fs::path dir_;
  Json header_ = Json::object();
  std::int64_t end_ = 0;
  std::vector<std::pair<std::string, std::uint16_t>> filled_;
};

void check_loading(const HollowModel& model, const char* quantize, std::int64_t weights) {
  Options options{.model_dir = model.dir(),
                  .quantize = quantize,
                  .max_context_tokens = 512,
                  .max_sequences = 4};
  const StandInBundle bundle(options.model_dir, options, kTarget);
  options.bundle_dir = bundle.dir();
  device::NullDevice device(kTarget, kDeviceBytes, 132);
  const Program program(device, model::ModelConfig::load(options.model_dir), options);
  const auto log = taken(device);
  EXPECT_NEAR(double(program.memory_use().weight_bytes), double(weights), 1e-3 * double(weights));
  EXPECT_LE(log.peak_of_loading, weights + kPieceBytes + kSmallBytes);
  fmt::print("weights {:.1f} MB, loading {:.1f}\n", double(weights) / 1e6,
             double(log.peak_of_loading) / 1e6);
}

TEST(MemoryWhileLoading, OfFloatsThatAreQuantised) {
  HollowModel model;
  model.add_all_but_products();
  for (std::int64_t layer = 0; layer < HollowModel::kNLayers; ++layer)
    for (const auto& [name, size] : matrices())
      model.add(fmt::format("model.layers.{}.{}.weight", layer, name), "F16", {size[0], size[1]},
                2);
  model.write();
  for (const char* format : {"", "int8", "fp8", "int4"}) {
    SCOPED_TRACE(format);
    const std::string_view head = format == std::string_view("int4") ? "int8" : format;
    check_loading(model, format, weight_bytes(format, head, HollowModel::kNLayers));
  }
}

// Packed by compressed-tensors, 4 bits.
void add_packed(HollowModel& model) {
  constexpr std::uint16_t kOneHundredth = 0x211f;  // of 16 bits
  model.add_all_but_products();
  for (std::int64_t layer = 0; layer < HollowModel::kNLayers; ++layer)
    for (const auto& [name, size] : matrices(model.inner())) {
      const auto module = fmt::format("model.layers.{}.{}", layer, name);
      model.add(module + ".weight_packed", "I32", {size[0], size[1] / 8}, 4);
      model.add(module + ".weight_shape", "I64", {2}, 8);
      model.add_filled(module + ".weight_scale", {size[0], size[1] / kGroup}, kOneHundredth);
    }
  model.write();
}

Json packed_config() {
  const Json weights{{"num_bits", 4},    {"type", "int"},       {"symmetric", true},
                     {"dynamic", false}, {"strategy", "group"}, {"group_size", kGroup}};
  return {{"quant_method", "compressed-tensors"},
          {"format", "pack-quantized"},
          {"quantization_status", "compressed"},
          {"ignore", {"lm_head"}},
          {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}}}}}};
}

TEST(MemoryWhileLoading, OfPublishedWeights) {
  HollowModel model(kInner, packed_config());
  add_packed(model);
  check_loading(model, "", weight_bytes("int4", "", HollowModel::kNLayers));
}

// Of matrices larger than a piece all rows come, each once, from the piece that was sent for them.
TEST(MemoryWhileLoading, OfMatricesThatComeInPieces) {
  constexpr std::int64_t kWide = 40960;  // 84 MB of 4 bits
  HollowModel model(kWide, packed_config());
  add_packed(model);
  Options options{.model_dir = model.dir(), .max_context_tokens = 512, .max_sequences = 4};
  const StandInBundle bundle(options.model_dir, options, kTarget);
  options.bundle_dir = bundle.dir();
  device::NullDevice device(kTarget, kDeviceBytes, 132);
  const Program program(device, model::ModelConfig::load(options.model_dir), options);

  const auto& names = bundle.args("unpack_weight");
  const auto index_of = [&](const char* name) {
    return static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
  };
  const auto q = index_of("q_ptr"), words = index_of("w_ptr"), n_rows = index_of("n_rows"),
             n_in = index_of("n_in");
  std::map<std::int64_t, std::int64_t> bytes_at;  // of q
  const device::NullEvent* sent = nullptr;
  std::size_t n_launches = 0;
  for (const auto& event : device.log()) {
    if (event.operation == device::NullOperation::upload) sent = &event;
    if (event.operation != device::NullOperation::launch || event.name != "unpack_weight") continue;
    const auto n_bytes = event.args.at(n_rows) * event.args.at(n_in) / 2;
    EXPECT_EQ(event.args.at(words), static_cast<std::int64_t>(sent->address));
    EXPECT_EQ(n_bytes, static_cast<std::int64_t>(sent->size_bytes));
    EXPECT_LE(n_bytes, kPieceBytes);
    bytes_at[event.args.at(q)] = n_bytes;
    ++n_launches;
  }
  EXPECT_GT(n_launches, HollowModel::kNLayers * matrices(kWide).size());
  std::int64_t end = 0, all = 0, wanted = 0;
  for (const auto& [begin, n_bytes] : bytes_at) {
    EXPECT_GE(begin, end);
    end = begin + n_bytes;
    all += n_bytes;
  }
  for (const auto& [name, size] : matrices(kWide))
    wanted += HollowModel::kNLayers * size[0] * size[1] / 2;
  EXPECT_EQ(all, wanted);
}

}  // namespace
}  // namespace nereid::program
