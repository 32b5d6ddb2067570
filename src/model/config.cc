#include "model/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "model/config_fields.h"
#include "model/config_rope.h"
#include "model/families.h"
#include "model/snapshot.h"

namespace nereid::model {

namespace {

// Fields that say nothing of what a forward pass computes: names and versions, training, defaults
// of generation, switches of the library that wrote the file, tables of other programs.
// clang-format off
constexpr std::string_view kHarmlessFields[] = {
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_flash_attn_2_enabled",
    "_name_or_path", "_sliding_window_pattern", "add_cross_attention", "architectures", "attention_dropout",
    "attn_implementation", "attn_pdrop", "auto_map", "bad_words_ids", "begin_suppress_tokens",
    "bos_token_id", "cache_implementation", "chunk_size_feed_forward", "classifier_dropout",
    "custom_pipelines", "decoder_start_token_id", "diversity_penalty", "do_sample",
    "early_stopping", "embd_pdrop", "encoder_no_repeat_ngram_size", "eos_token_id",
    "experts_implementation", "exponential_decay_length_penalty", "finetuning_task",
    "forced_bos_token_id", "forced_eos_token_id", "gradient_checkpointing", "hidden_dropout",
    "id2label", "initializer_range", "is_decoder", "is_llama_config", "keys_to_ignore_at_inference",
    "label2id", "length_penalty", "max_length", "max_new_tokens", "max_sequence_length",
    "min_length", "min_new_tokens", "min_p", "model_type", "name_or_path", "no_repeat_ngram_size",
    "num_beam_groups", "num_beams", "num_labels", "num_return_sequences", "output_attentions",
    "output_hidden_states", "output_scores", "pad_token_id", "prefix", "pretraining_tp",
    "problem_type", "pruned_heads", "remove_invalid_values", "repetition_penalty", "resid_pdrop",
    "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
    "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
    "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript", "transformers.js_config",
    "transformers_version", "typical_p", "unk_token_id", "unsloth_fixed", "unsloth_version",
    "use_bfloat16", "use_cache", "use_return_dict",
};
// clang-format on

// Fields of every class that change what is computed, and that the engine has no answer to.
struct RefusedField {
  const char* name;
  const char* expected;
};
constexpr std::array<RefusedField, 4> kRefusedFields{{
    {"quantization",  // MLX
     "absence: weights are read as float16, bfloat16 or float32, or as \"quantization_config\" "
     "says; take the model that this one was made from"},
    {"per_layer_config", "absence: all layers have the same sizes"},
    {"is_encoder_decoder", "false: models of a decoder only are supported"},
    {"use_bidirectional_attention", "false: a token sees those before it only"},
}};

constexpr std::int64_t kMaxSize = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxLayers = 1024;
// The attention kernels hold a whole head in registers.
constexpr std::int64_t kMaxHeadDim = 512;

// By an architecture that is supported, or the base model of one ("LlamaModel"); where none is
// named, by model_type, as transformers finds its class.
const Family& family_of(ConfigFields& fields) {
  const Json* names = fields.find("architectures");
  const Json* type = fields.find("model_type");
  std::string known;
  for (const auto& family : families()) {
    constexpr std::string_view kEnd = "ForCausalLM";
    const auto stem = family.architecture.substr(0, family.architecture.size() - kEnd.size());
    const auto is_family = [&](const Json& name) {
      return name == family.architecture || name == std::string(stem) + "Model";
    };
    if (names != nullptr && names->is_array() && std::ranges::any_of(*names, is_family))
      return family;
    if ((names == nullptr || (names->is_array() && names->empty())) && type != nullptr &&
        *type == family.model_type)
      return family;
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", family.architecture);
  }
  if (names == nullptr && type == nullptr) fields.fail_missing("architectures");
  if (names == nullptr) fields.fail("model_type", *type, "that of one of " + known);
  fields.fail("architectures", *names, fmt::format("one of {}", known));
}

void read_sizes(ConfigFields& fields, const Family& family, ModelConfig& config) {
  config.vocab_size = fields.integer("vocab_size", 1, kMaxSize);
  config.hidden_size = fields.integer("hidden_size", 1, kMaxSize);
  config.n_layers = fields.integer("num_hidden_layers", 1, kMaxLayers);
  config.n_heads = fields.integer("num_attention_heads", 1, kMaxSize);
  config.intermediate_size = fields.integer("intermediate_size", 1, kMaxSize);
  config.max_context_tokens = fields.integer_if("max_position_embeddings", 1, kMaxSize)
                                  .value_or(family.default_max_context);

  // Null, unlike absence, asks for as many as query heads.
  const bool has_default = family.default_kv_heads != 0 && !fields.has("num_key_value_heads");
  config.n_kv_heads = fields.integer_if("num_key_value_heads", 1, config.n_heads)
                          .value_or(has_default ? family.default_kv_heads : config.n_heads);
  if (config.n_heads % config.n_kv_heads != 0)
    fields.fail("num_key_value_heads", config.n_kv_heads,
                fmt::format("a divisor of num_attention_heads = {}{}", config.n_heads,
                            has_default ? "; absent, it has its class's default" : ""));

  const bool has_head_dim = fields.has("head_dim") || family.default_head_dim == 0;
  if (const auto head_dim = fields.integer_if("head_dim", 2, kMaxHeadDim)) {
    config.head_dim = *head_dim;
  } else if (!has_head_dim) {
    config.head_dim = family.default_head_dim;
  } else if (config.hidden_size % config.n_heads != 0 ||
             config.hidden_size / config.n_heads > kMaxHeadDim) {
    fields.fail("hidden_size", config.hidden_size,
                fmt::format("a multiple of num_attention_heads = {}, at most {} times it, where "
                            "head_dim is absent",
                            config.n_heads, kMaxHeadDim));
  } else {
    config.head_dim = config.hidden_size / config.n_heads;
  }
  if (config.head_dim % 2 != 0) fields.fail("head_dim", config.head_dim, "an even number");
  if (config.n_heads > kMaxSize / config.head_dim)
    fields.fail("num_attention_heads", config.n_heads,
                fmt::format("at most {} elements in all heads", kMaxSize));
}

// One layer in so many sees everything.
std::int64_t window_pattern_of(ConfigFields& fields, const Family& family) {
  if (!family.reads_window_pattern) return family.window_pattern;
  return fields.integer_if("sliding_window_pattern", 1, kMaxLayers).value_or(family.window_pattern);
}

struct WindowFields {
  std::int64_t window = 0;
  std::vector<bool> is_sliding;  // of each layer, where layer_types do not say
};

WindowFields read_window_fields(ConfigFields& fields, const Family& family, std::size_t n_layers) {
  WindowFields read{0, std::vector<bool>(n_layers, false)};
  // The class's own default, where the field is absent; null is none.
  const auto read_window = [&] {
    const auto written = fields.integer_if("sliding_window", 1, kMaxSize);
    read.window = written.value_or(fields.has("sliding_window") ? 0 : family.default_window);
  };
  switch (family.window_rule) {
    case WindowRule::none:
      break;
    case WindowRule::all_layers:
      read_window();
      read.is_sliding.assign(n_layers, read.window != 0);
      break;
    case WindowRule::upper_layers: {
      constexpr std::int64_t kDefaultFirstLayer = 28;
      if (!fields.flag("use_sliding_window", false)) {
        // They mean nothing then, whatever their values.
        fields.find("sliding_window");
        fields.find("max_window_layers");
        break;
      }
      read_window();
      const auto first =
          fields.integer_if("max_window_layers", 0, kMaxSize).value_or(kDefaultFirstLayer);
      for (std::size_t layer = 0; layer < n_layers; ++layer)
        read.is_sliding[layer] = read.window != 0 && std::int64_t(layer) >= first;
      break;
    }
    case WindowRule::pattern: {
      read_window();
      if (read.window == 0)
        fields.fail("sliding_window", nullptr,
                    "a number of tokens: layers with a window take turns with layers without");
      const auto pattern = std::size_t(window_pattern_of(fields, family));
      for (std::size_t layer = 0; layer < n_layers; ++layer)
        read.is_sliding[layer] = (layer + 1) % pattern != 0;
      break;
    }
  }
  return read;
}

void read_windows(ConfigFields& fields, const Family& family, ModelConfig& config) {
  const auto n_layers = std::size_t(config.n_layers);
  auto [window, is_sliding] = read_window_fields(fields, family, n_layers);
  const Json* types = fields.find("layer_types");
  if (types != nullptr && (!types->is_array() || types->size() != n_layers))
    fields.fail("layer_types", *types, fmt::format("a list of {} layers", n_layers));
  for (std::size_t layer = 0; types != nullptr && layer < n_layers; ++layer) {
    const Json& type = (*types)[layer];
    is_sliding[layer] = type == "sliding_attention";
    if (!is_sliding[layer] && type != "full_attention")
      fields.fail("layer_types", type, "\"full_attention\" or \"sliding_attention\"");
    if (is_sliding[layer] && window == 0)
      fields.fail("layer_types", type, "\"full_attention\", since there is no sliding_window");
    if (!is_sliding[layer] && window != 0 && family.window_rule == WindowRule::all_layers)
      fields.fail("layer_types", type,
                  fmt::format("\"sliding_attention\" in every layer of a {} with sliding_window",
                              family.architecture));
  }
  for (const bool is_windowed : is_sliding)
    config.layer_windows.push_back(is_windowed ? window : 0);
}

// The class calls it `hidden_activation` where it is not Llama's.
void read_activation(ConfigFields& fields, const Family& family, ModelConfig& config) {
  config.activation = family.activation;
  if (family.activation == Activation::gelu_tanh) {
    constexpr std::string_view kName = "gelu_pytorch_tanh";
    fields.find("hidden_act");  // means nothing, whatever its value
    const auto name = fields.text_if("hidden_activation").value_or(std::string(kName));
    if (name != kName) fields.fail("hidden_activation", name, fmt::format("\"{}\"", kName));
    return;
  }
  const auto name = fields.text_if("hidden_act").value_or("silu");
  if (name != "silu" && name != "swish") fields.fail("hidden_act", name, "\"silu\"");
}

// Null is none, absence the class's default.
double softcap_of(ConfigFields& fields, const std::string& name, double fallback) {
  constexpr double kLeast = 1e-3, kMost = 1e6;  // where fp32 has no trouble with it
  const auto cap = fields.number_if(name).value_or(fields.has(name) ? 0.0 : fallback);
  if (cap != 0.0 && (cap < kLeast || cap > kMost))
    fields.fail(name, cap, fmt::format("a number from {} to {}", kLeast, kMost));
  return cap;
}

void read_scales(ConfigFields& fields, const Family& family, ModelConfig& config) {
  if (family.reads_multipliers) {
    config.embedding_multiplier = fields.number_if("embedding_multiplier").value_or(1.0);
    config.residual_multiplier = fields.number_if("residual_multiplier").value_or(1.0);
    config.logits_scaling = fields.number_if("logits_scaling").value_or(1.0);
    config.attention_multiplier = fields.number_if("attention_multiplier").value_or(1.0);
  }
  if (family.scales_embedding) {
    config.embedding_multiplier = std::sqrt(double(config.hidden_size));
    config.rounds_embedding_multiplier = true;
  }
  if (family.default_query_scalar != 0.0)
    config.attention_multiplier =
        1.0 /
        std::sqrt(fields.number_if("query_pre_attn_scalar").value_or(family.default_query_scalar));
  if (!family.reads_logits_softcap) return;
  config.logits_softcap =
      softcap_of(fields, "final_logit_softcapping", family.default_logits_softcap);
  const std::string of_scores = "attn_logit_softcapping";
  if (family.reads_attention_softcap)
    config.attention_softcap = softcap_of(fields, of_scores, family.default_attention_softcap);
  else if (const Json* cap = fields.find(of_scores))
    fields.fail(of_scores, *cap,
                fmt::format("null: the class of {} has the field and computes nothing with it",
                            family.architecture));
}

void read_parts(ConfigFields& fields, const Family& family, ModelConfig& config) {
  read_activation(fields, family, config);
  config.rms_norm_eps = fields.number_if("rms_norm_eps").value_or(family.default_eps);
  config.tie_word_embeddings = fields.flag("tie_word_embeddings", family.is_tied);
  config.has_fused_projections = family.has_fused_projections;
  config.norm_places = family.norm_places;
  config.norms_one_plus = family.norms_one_plus;
  config.qk_norm = family.qk_norm;
  if (family.reads_attention_bias)
    config.attention_bias = config.attention_out_bias = fields.flag("attention_bias", false);
  if (family.has_qkv_bias) config.attention_bias = true;
  if (family.reads_mlp_bias) config.mlp_bias = fields.flag("mlp_bias", false);
  read_scales(fields, family, config);
}

struct DTypeName {
  std::string_view name;
  DType dtype;
};
constexpr std::array<DTypeName, 3> kDTypeNames{
    {{"float16", DType::fp16}, {"bfloat16", DType::bf16}, {"float32", DType::fp32}}};

// `dtype` is the newer name of `torch_dtype`: it counts where both are there.
DType read_dtype(ConfigFields& fields) {
  const char* field = fields.find("dtype") != nullptr ? "dtype" : "torch_dtype";
  const auto name = fields.text_if(field);
  if (!name) return DType::fp32;
  for (const auto& row : kDTypeNames)
    if (*name == row.name) return row.dtype;
  fields.fail(field, *name, "\"float16\", \"bfloat16\" or \"float32\"");
}

// A name for one line of text: hostile bytes escaped, long ones cut.
std::string field_text(const std::string& name) {
  const auto quoted = json_excerpt(Json(name));
  const bool is_whole = quoted.size() == name.size() + 2;
  return is_whole ? name : quoted;
}

}  // namespace

double ModelConfig::attention_scale(std::int64_t layer) const {
  const double factor = layer_rope(layer).attention_factor;
  return attention_multiplier.value_or(1.0 / std::sqrt(double(head_dim))) * factor * factor;
}

const RopeConfig& ModelConfig::layer_rope(std::int64_t layer) const {
  return window_rope && layer_windows.at(std::size_t(layer)) != 0 ? *window_rope : rope;
}

std::int64_t ModelConfig::layer_window(std::int64_t layer) const {
  const std::int64_t window = layer_windows.at(std::size_t(layer));
  return window < max_context_tokens ? window : 0;
}

std::int64_t ModelConfig::widest_window() const {
  std::int64_t widest = 0;
  for (std::int64_t layer = 0; layer < n_layers; ++layer) {
    if (layer_window(layer) == 0) return 0;
    widest = std::max(widest, layer_window(layer));
  }
  return widest;
}

std::string ModelConfig::ignored_text() const {
  constexpr std::size_t kMaxNames = 12;
  if (ignored_fields.empty()) return {};
  std::string text;
  for (std::size_t i = 0; i < std::min(kMaxNames, ignored_fields.size()); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", field_text(ignored_fields[i]));
  if (ignored_fields.size() > kMaxNames)
    text += fmt::format(" and {} more", ignored_fields.size() - kMaxNames);
  return fmt::format("config.json has fields that {} does not know: {}", architecture, text);
}

void ModelConfig::refuse_ignored() const {
  if (!ignored_fields.empty())
    throw Error("{}; they would be ignored but for the strict option", ignored_text());
}

ModelConfig ModelConfig::parse(const Json& json, const std::string& where) {
  ConfigFields fields(json, where);
  const Family& family = family_of(fields);
  ModelConfig config;
  config.architecture = family.architecture;
  for (const auto& [name, expected] : kRefusedFields)
    if (fields.says_something(name)) fields.fail(name, *fields.find(name), expected);
  read_sizes(fields, family, config);
  read_windows(fields, family, config);
  read_rope(fields, where, family, config);
  read_parts(fields, family, config);
  config.dtype = read_dtype(fields);
  // The second is what compressed-tensors once called it.
  for (const auto* name : {"quantization_config", "compression_config"})
    if (const Json* found = fields.find(name); found != nullptr && fields.says_something(name))
      config.quantization = Quantization::parse(*found, where, config.dtype);
  for (auto& name : fields.unread(kHarmlessFields))
    config.ignored_fields.push_back(std::move(name));
  return config;
}

ModelConfig ModelConfig::load(const std::filesystem::path& model_dir) {
  const auto path = model_dir / "config.json";
  if (!std::filesystem::exists(path))
    throw Error(ErrorCode::not_found, "{} {}; expected a Hugging Face snapshot directory{}",
                path.string(), absence_text(path), weights_advice(model_dir));
  const MappedFile file(path);
  const auto bytes = file.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const Json json = parse_json(text, path.string());
  auto config = parse(json, path.string());
  config.generation = read_generation_settings(model_dir, json);
  config.source_sha256 = sha256_hex(text);
  return config;
}

}  // namespace nereid::model
