// Goal: what config.json says of a model, in the engine's words, whatever family and version it is.
// What families differ in are fields here: nothing below asks for a model's name. A field that the
// family's class in Hugging Face's transformers honours is honoured or refused by its name; one
// that the class does not know changes nothing there, so it is ignored, and its name kept.
// Non-goal: options of a run; how text is generated (generation_settings.h).
// Rejected: refusing what is unknown. Files carry the settings of other programs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "model/generation_settings.h"
#include "model/quantization.h"
#include "model/rope.h"
#include "tensor/dtype.h"

namespace nereid::model {

// Where a block normalises (RMSNorm): what attention and feed-forward are given, what they give, or
// both.
enum class NormPlaces : std::uint8_t { before, after, around };

// RMSNorm of queries and keys, before RoPE: of each head, or of a row of all heads.
enum class QkNorm : std::uint8_t { none, head, row };

// Of the feed-forward's gate, which multiplies the other half.
enum class Activation : std::uint8_t { silu, gelu_tanh };

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"

  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t n_layers = 0;
  std::int64_t n_heads = 0;
  std::int64_t n_kv_heads = 0;  // divides n_heads
  std::int64_t head_dim = 0;    // even
  std::int64_t intermediate_size = 0;
  std::int64_t max_context_tokens = 0;
  double rms_norm_eps = 1e-6;
  DType dtype = DType::fp32;  // of the weights, but for those that are quantised
  std::optional<Quantization> quantization;

  bool tie_word_embeddings = false;
  bool attention_bias = false;      // q, k and v projections
  bool attention_out_bias = false;  // o projection
  bool mlp_bias = false;            // gate, up and down projections
  // q, k and v are stored as one matrix, one below the other, gate and up as another.
  bool has_fused_projections = false;
  NormPlaces norm_places = NormPlaces::before;
  bool norms_one_plus = false;  // a norm's factors are 1 + its weight, in fp32
  QkNorm qk_norm = QkNorm::none;
  Activation activation = Activation::silu;

  RopeConfig rope;
  std::optional<RopeConfig> window_rope;  // of layers with a window; absent: the same
  // Keys that a query sees, itself included; 0: all before it. [n_layers]
  std::vector<std::int64_t> layer_windows;

  // 1 leaves a value as it is.
  double embedding_multiplier = 1.0;
  bool rounds_embedding_multiplier = false;  // to the type of activations
  double residual_multiplier = 1.0;
  double logits_scaling = 1.0;                 // logits are divided by it
  std::optional<double> attention_multiplier;  // of q.k; absent: 1 / sqrt(head_dim)
  // c * tanh(x / c) of scores and of logits; 0: as they are.
  double attention_softcap = 0.0;
  double logits_softcap = 0.0;
  // Scores lean towards near keys, by ALiBi's slopes of the heads. No config.json says so.
  bool has_alibi = false;

  std::vector<std::string> ignored_fields;  // of config.json: the family's class knows none of them
  GenerationSettings generation;            // of the whole directory

  std::string source_sha256;  // of config.json's text; empty where this was not read from one

  double attention_scale(std::int64_t layer) const;
  const RopeConfig& layer_rope(std::int64_t layer) const;
  // A window that no context can outgrow is none: 0.
  std::int64_t layer_window(std::int64_t layer) const;
  std::int64_t widest_window() const;  // 0: some layer has none

  // "config.json has fields that ...: a, b": one line about what is ignored; empty where nothing
  // is.
  std::string ignored_text() const;
  void refuse_ignored() const;  // an Error with that line

  // From config.json and its neighbours. An Error names file and field.
  static ModelConfig load(const std::filesystem::path& model_dir);
  // Of config.json alone; `where` is what messages call it.
  static ModelConfig parse(const Json& config, const std::string& where);
};

}  // namespace nereid::model
