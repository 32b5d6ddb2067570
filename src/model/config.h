// Goal: what config.json says of a model, in the engine's words, whatever family and version it is.
// What families differ in are fields here: nothing below asks for a model's name.
// Non-goal: defaults of sampling; options of a run.
// Rejected: ignoring unknown fields. They may change what a model computes: each is an Error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
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

  std::optional<std::int32_t> bos_token_id;
  std::vector<std::int32_t>
      eos_ids;  // ascending; of config.json and generation_config.json together

  std::string source_sha256;  // of config.json's text; empty where this was not read from one

  double attention_scale() const;
  // A window that no context can outgrow is none: 0.
  std::int64_t layer_window(std::int64_t layer) const;

  // From config.json and, where present, generation_config.json of the folder. An Error names file
  // and field.
  static ModelConfig load(const std::filesystem::path& model_dir);
  // The same from parsed files; `generation` is null where there is none. `where` is what messages
  // call the first.
  static ModelConfig parse(const Json& config, const Json& generation, const std::string& where);
};

}  // namespace nereid::model
