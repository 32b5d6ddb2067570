#include "model/families.h"

#include <array>

namespace nereid::model {

namespace {

constexpr Family kLlama{
    .architecture = "LlamaForCausalLM",
    .model_type = "llama",
    .reads_attention_bias = true,
    .reads_mlp_bias = true,
    .default_max_context = 2048,
};

constexpr Family kMistral{
    .architecture = "MistralForCausalLM",
    .model_type = "mistral",
    .default_kv_heads = 8,
    .default_max_context = 131072,
    .window_rule = WindowRule::all_layers,
    .default_window = 4096,
};

constexpr Family kQwen2{
    .architecture = "Qwen2ForCausalLM",
    .model_type = "qwen2",
    .has_qkv_bias = true,
    .default_kv_heads = 32,
    .default_max_context = 32768,
    .window_rule = WindowRule::upper_layers,
    .default_window = 4096,
};

constexpr Family kQwen3{
    .architecture = "Qwen3ForCausalLM",
    .model_type = "qwen3",
    .reads_attention_bias = true,
    .qk_norm = QkNorm::head,
    .default_kv_heads = 32,
    .default_head_dim = 128,
    .default_max_context = 32768,
    .window_rule = WindowRule::upper_layers,
    .default_window = 4096,
};

constexpr Family kGranite{
    .architecture = "GraniteForCausalLM",
    .model_type = "granite",
    .reads_attention_bias = true,
    .reads_mlp_bias = true,
    .reads_multipliers = true,
    .default_max_context = 2048,
};

constexpr Family kPhi3{
    .architecture = "Phi3ForCausalLM",
    .model_type = "phi3",
    .has_fused_projections = true,
    .default_max_context = 4096,
    .default_eps = 1e-5,
    .window_rule = WindowRule::all_layers,
    .rope_rule = RopeRule::long_only,
    .default_original_context = 4096,
};

constexpr Family kOlmo2{
    .architecture = "Olmo2ForCausalLM",
    .model_type = "olmo2",
    .reads_attention_bias = true,
    .norm_places = NormPlaces::after,
    .qk_norm = QkNorm::row,
    .default_max_context = 2048,
    .default_eps = 1e-5,
};

constexpr Family kGemma2{
    .architecture = "Gemma2ForCausalLM",
    .model_type = "gemma2",
    .reads_attention_bias = true,
    .reads_logits_softcap = true,
    .reads_attention_softcap = true,
    .norm_places = NormPlaces::around,
    .norms_one_plus = true,
    .activation = Activation::gelu_tanh,
    .scales_embedding = true,
    .is_tied = true,
    .default_kv_heads = 4,
    .default_head_dim = 256,
    .default_max_context = 8192,
    .default_query_scalar = 256.0,
    .default_attention_softcap = 50.0,
    .default_logits_softcap = 30.0,
    .window_rule = WindowRule::pattern,
    .default_window = 4096,
    .window_pattern = 2,
};

constexpr Family kGemma3{
    .architecture = "Gemma3ForCausalLM",
    .model_type = "gemma3_text",
    .reads_attention_bias = true,
    .reads_logits_softcap = true,
    .norm_places = NormPlaces::around,
    .norms_one_plus = true,
    .qk_norm = QkNorm::head,
    .activation = Activation::gelu_tanh,
    .scales_embedding = true,
    .is_tied = true,
    .default_kv_heads = 4,
    .default_head_dim = 256,
    .default_max_context = 131072,
    .default_query_scalar = 256.0,
    .window_rule = WindowRule::pattern,
    .default_window = 4096,
    .window_pattern = 6,
    .reads_window_pattern = true,
    .rope_rule = RopeRule::by_layer,
    .default_theta = 1000000.0,
    .default_window_theta = 10000.0,
};

constexpr std::array kFamilies{kLlama, kMistral, kQwen2,  kQwen3, kGranite,
                               kPhi3,  kOlmo2,   kGemma2, kGemma3};

}  // namespace

std::span<const Family> families() { return kFamilies; }

}  // namespace nereid::model
