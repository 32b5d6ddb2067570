// Goal: the families of models, a row each: what is true of every model of an architecture,
// whatever its config.json says, and which fields its class in transformers reads.
// Non-goal: reading the fields (config.cc), computing (llama.cc).
// Rejected: rows of columns without names. Most facts are true of one or two families only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "model/config.h"

namespace nereid::model {

// Which layers look back only `sliding_window` tokens.
enum class WindowRule : std::uint8_t {
  none,
  all_layers,    // wherever `sliding_window` is not null
  upper_layers,  // from `max_window_layers` on, if `use_sliding_window`; or as `layer_types` says
  pattern,       // all but each n-th; or as `layer_types` says
};

enum class RopeRule : std::uint8_t {
  plain,      // one for all layers, of every kind
  long_only,  // one for all layers: none but `longrope`, which was called "su" and "yarn" once
  by_layer,   // one for layers with a window, another for those without
};

// The defaults are those of the class for a field that is absent.
struct Family {
  std::string_view architecture;
  std::string_view model_type;

  bool has_qkv_bias = false;          // always; else as `attention_bias` says, where that is read
  bool reads_attention_bias = false;  // q, k, v and o projections
  bool reads_mlp_bias = false;
  bool reads_multipliers = false;  // Granite's four
  bool reads_logits_softcap = false;
  bool reads_attention_softcap = false;
  bool has_fused_projections = false;
  NormPlaces norm_places = NormPlaces::before;
  bool norms_one_plus = false;
  QkNorm qk_norm = QkNorm::none;
  // silu is named by `hidden_act`, gelu_tanh by `hidden_activation`.
  Activation activation = Activation::silu;
  bool scales_embedding = false;  // by sqrt(hidden_size)
  bool is_tied = false;           // where `tie_word_embeddings` is absent

  std::int64_t default_kv_heads = 0;  // 0: as many as query heads
  std::int64_t default_head_dim = 0;  // 0: hidden_size / n_heads
  std::int64_t default_max_context = 0;
  double default_eps = 1e-6;
  double default_query_scalar = 0.0;  // 0: `query_pre_attn_scalar` is not read
  double default_attention_softcap = 0.0;
  double default_logits_softcap = 0.0;

  WindowRule window_rule = WindowRule::none;
  std::int64_t default_window = 0;  // 0: none
  std::int64_t window_pattern = 0;  // of the rule: one layer in so many sees everything
  bool reads_window_pattern = false;

  RopeRule rope_rule = RopeRule::plain;
  double default_theta = 10000.0;
  std::int64_t default_original_context = 0;  // 0: max_position_embeddings
  double default_window_theta = 10000.0;      // by_layer
};

std::span<const Family> families();

}  // namespace nereid::model
