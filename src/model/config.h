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
#include "model/rope.h"
#include "tensor/dtype.h"

namespace nereid::model {

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
  DType dtype = DType::fp32;  // of the weights

  bool tie_word_embeddings = false;
  bool attention_bias = false;      // q, k and v projections
  bool attention_out_bias = false;  // o projection
  bool mlp_bias = false;            // gate, up and down projections
  bool qk_norm = false;             // RMSNorm over head_dim of q and k, before RoPE

  RopeConfig rope;
  // Keys that a query sees, itself included; 0: all before it. [n_layers]
  std::vector<std::int64_t> layer_windows;

  // Granite 3. 1 leaves a value as it is.
  double embedding_multiplier = 1.0;
  double residual_multiplier = 1.0;
  double logits_scaling = 1.0;                 // logits are divided by it
  std::optional<double> attention_multiplier;  // of q.k; absent: 1 / sqrt(head_dim)

  std::vector<std::string> ignored_fields;  // of config.json: the family's class knows none of them
  GenerationSettings generation;            // of the whole directory

  std::string source_sha256;  // of config.json's text; empty where this was not read from one

  double attention_scale() const;
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
