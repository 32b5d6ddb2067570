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

namespace nereid::model {

namespace {

// Which layers look back only `sliding_window` tokens.
enum class WindowRule : std::uint8_t {
  none,
  all_layers,    // wherever `sliding_window` is not null
  upper_layers,  // from `max_window_layers` on, if `use_sliding_window`; or as `layer_types` says
};

// What is true of every model of an architecture, whatever its config.json says. Absent fields have
// the defaults of the Hugging Face class of the same name.
struct Family {
  std::string_view architecture;
  bool has_qkv_bias;          // always; else as `attention_bias` says, where that is read
  bool reads_attention_bias;  // q, k, v and o projections
  bool reads_mlp_bias;
  bool has_qk_norm;
  bool reads_multipliers;
  bool needs_kv_heads;  // absent does not mean as many as query heads
  bool needs_head_dim;  // absent does not mean hidden_size / n_heads
  WindowRule window_rule;
};

// clang-format off
constexpr std::array<Family, 5> kFamilies{{
    // architecture          qkv   attention mlp   qk    multi  kv     head   window
    //                       bias  _bias     _bias norm  pliers _heads _dim
    {"LlamaForCausalLM",     false, true,  true,  false, false, false, false, WindowRule::none},
    {"MistralForCausalLM",   false, false, false, false, false, true,  false, WindowRule::all_layers},
    {"Qwen2ForCausalLM",     true,  false, false, false, false, true,  false, WindowRule::upper_layers},
    {"Qwen3ForCausalLM",     false, true,  false, true,  false, true,  true,  WindowRule::upper_layers},
    {"GraniteForCausalLM",   false, true,  true,  false, true,  false, false, WindowRule::none},
}};
// clang-format on

// Fields that say nothing of what a forward pass computes: names and versions, training, defaults
// of generation, switches of the library that wrote the file.
// clang-format off
constexpr std::string_view kHarmlessFields[] = {
    "_attn_implementation", "_attn_implementation_autoset", "_name_or_path", "attention_dropout",
    "attn_implementation", "attn_pdrop", "do_sample", "embd_pdrop", "hidden_dropout", "id2label",
    "initializer_range", "is_llama_config", "label2id", "max_length", "max_sequence_length",
    "model_type", "num_beams", "num_return_sequences", "pad_token_id", "pretraining_tp",
    "repetition_penalty", "resid_pdrop", "return_dict", "temperature", "tokenizer_class", "top_k",
    "top_p", "transformers_version", "typical_p", "unk_token_id", "unsloth_fixed",
    "unsloth_version", "use_cache", "use_return_dict",
};
// clang-format on

// Fields that change nothing at this value and are refused at any other.
struct NeutralField {
  const char* name;
  double value;
};
constexpr NeutralField kPartialRotary{"partial_rotary_factor", 1.0};
constexpr std::array<NeutralField, 5> kNeutralFields{{kPartialRotary,
                                                      {"rotary_pct", 1.0},
                                                      {"embedding_multiplier", 1.0},
                                                      {"residual_multiplier", 1.0},
                                                      {"logits_scaling", 1.0}}};

constexpr std::int64_t kMaxSize = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxLayers = 1024;
// The attention kernels hold a whole head in registers.
constexpr std::int64_t kMaxHeadDim = 512;

const Family& family_of(ConfigFields& fields) {
  const Json* names = fields.find("architectures");
  if (names == nullptr) fields.fail_missing("architectures");
  std::string known;
  for (const auto& family : kFamilies) {
    if (names->is_array() && names->size() == 1 && names->front() == family.architecture)
      return family;
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", family.architecture);
  }
  fields.fail("architectures", *names, fmt::format("one of {}", known));
}

void read_sizes(ConfigFields& fields, const Family& family, ModelConfig& config) {
  config.vocab_size = fields.integer("vocab_size", 1, kMaxSize);
  config.hidden_size = fields.integer("hidden_size", 1, kMaxSize);
  config.n_layers = fields.integer("num_hidden_layers", 1, kMaxLayers);
  config.n_heads = fields.integer("num_attention_heads", 1, kMaxSize);
  config.intermediate_size = fields.integer("intermediate_size", 1, kMaxSize);
  config.max_context_tokens = fields.integer("max_position_embeddings", 1, kMaxSize);

  const Json* kv_heads = fields.find("num_key_value_heads");
  config.n_kv_heads =
      fields.integer_if("num_key_value_heads", 1, config.n_heads).value_or(config.n_heads);
  if (kv_heads == nullptr && family.needs_kv_heads) fields.fail_missing("num_key_value_heads");
  if (config.n_heads % config.n_kv_heads != 0)
    fields.fail("num_key_value_heads", *kv_heads,
                fmt::format("a divisor of num_attention_heads = {}", config.n_heads));

  if (const auto head_dim = fields.integer_if("head_dim", 2, kMaxHeadDim)) {
    config.head_dim = *head_dim;
  } else if (family.needs_head_dim) {
    fields.fail_missing("head_dim");
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
  if (family.window_rule == WindowRule::all_layers) {
    // Absent is not null here: the class's own default applies.
    constexpr std::int64_t kMistralWindow = 4096;
    window = fields.integer_if("sliding_window", 1, kMaxSize).value_or(0);
    if (!fields.has("sliding_window")) window = kMistralWindow;
  } else if (family.window_rule == WindowRule::upper_layers) {
    // Read in any case: without use_sliding_window they mean nothing, whatever their values.
    const auto written_window = fields.integer_if("sliding_window", 1, kMaxSize);
    const auto written_first = fields.integer_if("max_window_layers", 0, kMaxSize);
    if (fields.flag("use_sliding_window", false)) {
      if (!written_window) fields.fail_missing("sliding_window");
      if (!written_first && fields.find("layer_types") == nullptr)
        fields.fail_missing("max_window_layers");
      window = *written_window;
      first_layer = written_first.value_or(0);
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

RopeType rope_type_of(ConfigFields& rope) {
  // Files before 2024 say "type", later ones "rope_type", some both.
  const auto new_name = rope.text_if("rope_type");
  const auto old_name = rope.text_if("type");
  const std::string name = new_name.value_or(old_name.value_or("default"));
  if (old_name && *old_name != name)
    rope.fail("type", *old_name, fmt::format("the same as rope_type = \"{}\"", name));
  for (const auto type : {RopeType::plain, RopeType::linear, RopeType::llama3})
    if (name == rope_type_name(type)) return type;
  rope.fail(new_name ? "rope_type" : "type", name,
            "\"default\", \"linear\" or \"llama3\"; the engine implements no other");
}

void read_neutral(ConfigFields& fields, const NeutralField& neutral) {
  const Json* value = fields.find(neutral.name);
  if (value != nullptr && (!value->is_number() || value->get<double>() != neutral.value))
    fields.fail(neutral.name, *value, fmt::format("{}; nothing else is supported", neutral.value));
}

std::optional<double> theta_if(ConfigFields& fields) {
  const auto theta = fields.number_if("rope_theta");
  if (theta && *theta < 1.0) fields.fail("rope_theta", *theta, "1 or more");
  return theta;
}

void read_rope(ConfigFields& fields, const std::string& where, RopeConfig& config) {
  if (const auto theta = theta_if(fields)) config.theta = *theta;
  const Json* new_form = fields.find("rope_parameters");
  const Json* old_form = fields.find("rope_scaling");
  if (new_form != nullptr && old_form != nullptr && *new_form != *old_form)
    fields.fail("rope_scaling", *old_form, "the same as rope_parameters, or absence");
  const Json* form = new_form != nullptr ? new_form : old_form;
  if (form == nullptr) return;
  ConfigFields rope(*form, where, new_form != nullptr ? "rope_parameters." : "rope_scaling.");
  config.type = rope_type_of(rope);
  const bool has_outer_theta = fields.find("rope_theta") != nullptr;
  if (const auto theta = theta_if(rope)) {
    if (has_outer_theta && *theta != config.theta)
      rope.fail("rope_theta", *theta, fmt::format("the same as rope_theta = {}", config.theta));
    config.theta = *theta;
  }
  read_neutral(rope, kPartialRotary);
  if (config.type != RopeType::plain) {
    config.factor = rope.number("factor");
    if (config.factor < 1.0) rope.fail("factor", config.factor, "1 or more");
  }
  if (config.type == RopeType::llama3) {
    config.low_freq_factor = rope.number("low_freq_factor");
    config.high_freq_factor = rope.number("high_freq_factor");
    config.original_max_position = rope.integer("original_max_position_embeddings", 1, kMaxSize);
    if (config.high_freq_factor <= config.low_freq_factor)
      rope.fail("high_freq_factor", config.high_freq_factor,
                fmt::format("more than low_freq_factor = {}", config.low_freq_factor));
  }
  rope.refuse_others({});
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

DType read_dtype(ConfigFields& fields) {
  const auto new_name = fields.text_if("dtype");
  const auto old_name = fields.text_if("torch_dtype");
  if (new_name && old_name && *new_name != *old_name)
    fields.fail("torch_dtype", *old_name, fmt::format("the same as dtype = \"{}\"", *new_name));
  const auto name = new_name ? new_name : old_name;
  if (!name) return DType::fp32;
  for (const auto& row : kDTypeNames)
    if (*name == row.name) return row.dtype;
  fields.fail(new_name ? "dtype" : "torch_dtype", *name,
              "\"float16\", \"bfloat16\" or \"float32\"");
}

// One id, or a list of them.
void add_eos_ids(ConfigFields& fields, std::vector<std::int32_t>& ids) {
  const Json* value = fields.find("eos_token_id");
  if (value == nullptr) return;
  const auto add = [&](const Json& id) {
    if (!id.is_number_integer() || id < 0 || id > kMaxSize)
      fields.fail("eos_token_id", id, "a token id, or a list of them");
    ids.push_back(id.get<std::int32_t>());
  };
  if (value->is_array())
    for (const Json& id : *value) add(id);
  else
    add(*value);
}

}  // namespace

double ModelConfig::attention_scale() const {
  return attention_multiplier.value_or(1.0 / std::sqrt(double(head_dim)));
}

std::int64_t ModelConfig::layer_window(std::int64_t layer) const {
  const std::int64_t window = layer_windows.at(std::size_t(layer));
  return window < max_context_tokens ? window : 0;
}

ModelConfig ModelConfig::parse(const Json& json, const Json& generation, const std::string& where) {
  ConfigFields fields(json, where);
  const Family& family = family_of(fields);
  ModelConfig config;
  config.architecture = family.architecture;
  read_sizes(fields, family, config);
  read_windows(fields, family, config);
  read_rope(fields, where, config.rope);
  read_parts(fields, family, config);
  config.dtype = read_dtype(fields);
  if (const auto id = fields.integer_if("bos_token_id", 0, kMaxSize))
    config.bos_token_id = std::int32_t(*id);
  add_eos_ids(fields, config.eos_ids);
  if (!generation.is_null()) {
    ConfigFields generation_fields(generation, "generation_config.json beside " + where);
    add_eos_ids(generation_fields, config.eos_ids);
  }
  std::ranges::sort(config.eos_ids);
  const auto repeated = std::ranges::unique(config.eos_ids);
  config.eos_ids.erase(repeated.begin(), repeated.end());
  for (const auto& neutral : kNeutralFields)
    if (!fields.is_read(neutral.name)) read_neutral(fields, neutral);
  fields.refuse_others(kHarmlessFields);
  return config;
}

ModelConfig ModelConfig::load(const std::filesystem::path& model_dir) {
  const auto path = model_dir / "config.json";
  if (!std::filesystem::exists(path))
    throw Error("config.json not found in {}; expected a Hugging Face snapshot directory",
                model_dir.string());
  const auto generation_path = model_dir / "generation_config.json";
  const bool has_generation = std::filesystem::exists(generation_path);
  const MappedFile file(path);
  const auto bytes = file.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  auto config = parse(parse_json(text, path.string()),
                      has_generation ? read_json_file(generation_path) : Json(), path.string());
  config.source_sha256 = sha256_hex(text);
  return config;
}

}  // namespace nereid::model
