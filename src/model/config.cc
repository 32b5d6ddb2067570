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
#include "model/snapshot.h"

namespace nereid::model {

namespace {

// Which layers look back only `sliding_window` tokens.
enum class WindowRule : std::uint8_t {
  none,
  all_layers,    // wherever `sliding_window` is not null
  upper_layers,  // from `max_window_layers` on, if `use_sliding_window`; or as `layer_types` says
};

// What is true of every model of an architecture, whatever its config.json says. The defaults are
// those of the class in transformers for a field that is absent.
struct Family {
  std::string_view architecture;
  std::string_view model_type;
  bool has_qkv_bias;          // always; else as `attention_bias` says, where that is read
  bool reads_attention_bias;  // q, k, v and o projections
  bool reads_mlp_bias;
  bool has_qk_norm;
  bool reads_multipliers;
  std::int64_t default_kv_heads;  // 0: as many as query heads
  std::int64_t default_head_dim;  // 0: hidden_size / n_heads
  std::int64_t default_max_context;
  WindowRule window_rule;
};

// clang-format off
constexpr std::array<Family, 5> kFamilies{{
    // architecture          model_type  qkv   attention mlp   qk    multi  kv     head  max      window
    //                                   bias  _bias     _bias norm  pliers heads  dim   context
    {"LlamaForCausalLM",     "llama",    false, true,  true,  false, false, 0,     0,    2048,    WindowRule::none},
    {"MistralForCausalLM",   "mistral",  false, false, false, false, false, 8,     0,    131072,  WindowRule::all_layers},
    {"Qwen2ForCausalLM",     "qwen2",    true,  false, false, false, false, 32,    0,    32768,   WindowRule::upper_layers},
    {"Qwen3ForCausalLM",     "qwen3",    false, true,  false, true,  false, 32,    128,  32768,   WindowRule::upper_layers},
    {"GraniteForCausalLM",   "granite",  false, true,  true,  false, true,  0,     0,    2048,    WindowRule::none},
}};
// clang-format on

// Fields that say nothing of what a forward pass computes: names and versions, training, defaults
// of generation, switches of the library that wrote the file, tables of other programs.
// clang-format off
constexpr std::string_view kHarmlessFields[] = {
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_flash_attn_2_enabled",
    "_name_or_path", "add_cross_attention", "architectures", "attention_dropout",
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
constexpr const char* kNotQuantised =
    "absence: weights are read as float16, bfloat16 or float32, not quantised; take the model that "
    "this one was made from";
constexpr std::array<RefusedField, 5> kRefusedFields{{
    {"quantization_config", kNotQuantised},
    {"quantization", kNotQuantised},  // MLX
    {"compression_config", kNotQuantised},
    {"per_layer_config", "absence: all layers have the same sizes"},
    {"is_encoder_decoder", "false: models of a decoder only are supported"},
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
  for (const auto& family : kFamilies) {
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

void read_windows(ConfigFields& fields, const Family& family, ModelConfig& config) {
  const auto n_layers = std::size_t(config.n_layers);
  config.layer_windows.assign(n_layers, 0);
  std::int64_t window = 0;
  std::int64_t first_layer = 0;
  // The classes' own default, where the field is absent; null is none.
  constexpr std::int64_t kDefaultWindow = 4096;
  const auto written_window = [&] {
    const auto written = fields.integer_if("sliding_window", 1, kMaxSize);
    return written.value_or(fields.has("sliding_window") ? 0 : kDefaultWindow);
  };
  if (family.window_rule == WindowRule::all_layers) {
    window = written_window();
  } else if (family.window_rule == WindowRule::upper_layers) {
    constexpr std::int64_t kDefaultFirstLayer = 28;
    if (fields.flag("use_sliding_window", false)) {
      window = written_window();
      first_layer =
          fields.integer_if("max_window_layers", 0, kMaxSize).value_or(kDefaultFirstLayer);
    } else {
      // They mean nothing then, whatever their values.
      fields.find("sliding_window");
      fields.find("max_window_layers");
    }
  }
  for (std::size_t layer = 0; layer < n_layers; ++layer)
    config.layer_windows[layer] = std::int64_t(layer) >= first_layer ? window : 0;

  const Json* types = fields.find("layer_types");
  if (types == nullptr) return;
  if (!types->is_array() || types->size() != n_layers)
    fields.fail("layer_types", *types, fmt::format("a list of {} layers", n_layers));
  for (std::size_t layer = 0; layer < n_layers; ++layer) {
    const Json& type = (*types)[layer];
    const bool is_sliding = type == "sliding_attention";
    if (!is_sliding && type != "full_attention")
      fields.fail("layer_types", type, "\"full_attention\" or \"sliding_attention\"");
    if (is_sliding && window == 0)
      fields.fail("layer_types", type, "\"full_attention\", since there is no sliding_window");
    if (!is_sliding && window != 0 && family.window_rule == WindowRule::all_layers)
      fields.fail("layer_types", type,
                  fmt::format("\"sliding_attention\" in every layer of a {} with sliding_window",
                              family.architecture));
    config.layer_windows[layer] = is_sliding ? window : 0;
  }
}

void read_parts(ConfigFields& fields, const Family& family, ModelConfig& config) {
  const auto activation = fields.text_if("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish")
    fields.fail("hidden_act", activation, "\"silu\"");
  config.rms_norm_eps = fields.number_if("rms_norm_eps").value_or(config.rms_norm_eps);
  config.tie_word_embeddings = fields.flag("tie_word_embeddings", false);
  config.qk_norm = family.has_qk_norm;
  if (family.reads_attention_bias)
    config.attention_bias = config.attention_out_bias = fields.flag("attention_bias", false);
  if (family.has_qkv_bias) config.attention_bias = true;
  if (family.reads_mlp_bias) config.mlp_bias = fields.flag("mlp_bias", false);
  if (family.reads_multipliers) {
    config.embedding_multiplier = fields.number_if("embedding_multiplier").value_or(1.0);
    config.residual_multiplier = fields.number_if("residual_multiplier").value_or(1.0);
    config.logits_scaling = fields.number_if("logits_scaling").value_or(1.0);
    config.attention_multiplier = fields.number_if("attention_multiplier").value_or(1.0);
  }
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

double ModelConfig::attention_scale() const {
  return attention_multiplier.value_or(1.0 / std::sqrt(double(head_dim))) * rope.attention_factor *
         rope.attention_factor;
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
  config.rope = read_rope(fields, where, config.max_context_tokens, config.ignored_fields);
  read_parts(fields, family, config);
  config.dtype = read_dtype(fields);
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
