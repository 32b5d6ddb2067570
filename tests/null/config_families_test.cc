// What config.json says of the families that differ from Llama in more than sizes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "null/config_samples.h"

namespace nereid::model {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Config, Gemma2) {
  const auto config = fixture("gemma2");
  EXPECT_EQ(config.activation, Activation::gelu_tanh);
  EXPECT_TRUE(config.norms_one_plus);
  EXPECT_EQ(config.embedding_multiplier, 8.0);  // sqrt(64)
  EXPECT_TRUE(config.rounds_embedding_multiplier);
  EXPECT_EQ(config.attention_scale(0), 1.0 / 12.0);  // sqrt(144)
  EXPECT_EQ(config.attention_softcap, 3.0);
  EXPECT_EQ(config.logits_softcap, 1.5);
  EXPECT_THAT(config.layer_windows, ElementsAre(16, 0, 16, 0));
  EXPECT_FALSE(config.window_rope);

  Json json = fixture_json("gemma2");
  for (const char* field :
       {"num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps",
        "hidden_activation", "tie_word_embeddings", "sliding_window", "layer_types",
        "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"})
    json.erase(field);
  json["num_attention_heads"] = 8;
  const auto plain = parse(json);
  EXPECT_EQ(plain.n_kv_heads, 4);
  EXPECT_EQ(plain.head_dim, 256);
  EXPECT_EQ(plain.max_context_tokens, 8192);
  EXPECT_THAT(plain.layer_windows, ElementsAre(4096, 0, 4096, 0));
  EXPECT_EQ(plain.attention_scale(0), 1.0 / 16.0);
  EXPECT_EQ(plain.attention_softcap, 50.0);
  EXPECT_EQ(plain.logits_softcap, 30.0);
  EXPECT_TRUE(plain.tie_word_embeddings);
  json["attn_logit_softcapping"] = json["final_logit_softcapping"] = nullptr;
  EXPECT_EQ(parse(json).attention_softcap, 0.0);
  EXPECT_EQ(parse(json).logits_softcap, 0.0);
  json["hidden_act"] = "gelu";  // of an older class: nothing reads it
  EXPECT_THAT(parse(json).ignored_fields, IsEmpty());

  EXPECT_THAT(error_of(changed("gemma2", "hidden_activation", "gelu")),
              HasSubstr("\"hidden_activation\" = \"gelu\": expected \"gelu_pytorch_tanh\""));
  json = without("gemma2", "layer_types");
  json["sliding_window"] = nullptr;
  EXPECT_THAT(error_of(json), HasSubstr("\"sliding_window\" = null: expected a number of tokens"));
  EXPECT_THAT(error_of(changed("gemma2", "final_logit_softcapping", 1e-9)),
              HasSubstr("expected a number from 0.001"));
  EXPECT_THAT(error_of(changed("gemma2", "use_bidirectional_attention", true)),
              HasSubstr("those before it only"));
}

TEST(Config, Gemma3) {
  const auto config = fixture("gemma3");
  EXPECT_THAT(config.layer_windows, ElementsAre(16, 16, 16, 16, 16, 0));
  const RopeConfig of_all{.type = RopeType::linear, .theta = 1000000.0, .factor = 8.0};
  EXPECT_EQ(config.layer_rope(5), of_all);
  EXPECT_EQ(config.layer_rope(0), RopeConfig{});
  EXPECT_EQ(config.attention_softcap, 0.0);
  EXPECT_EQ(config.logits_softcap, 0.0);

  // As files of 2025 say it.
  Json json = without("gemma3", "rope_parameters");
  json.erase("layer_types");
  json["sliding_window_pattern"] = 3;
  json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8.0}};
  EXPECT_THAT(parse(json).layer_windows, ElementsAre(16, 16, 0, 16, 16, 0));
  EXPECT_EQ(parse(json).layer_rope(2), of_all);
  EXPECT_EQ(parse(json).layer_rope(0), RopeConfig{});
  json["rope_local_base_freq"] = 5000;
  json["rope_theta"] = 2000000;
  EXPECT_EQ(parse(json).layer_rope(0).theta, 5000);
  EXPECT_EQ(parse(json).layer_rope(2).theta, 2000000);
  EXPECT_THAT(parse(json).ignored_fields, IsEmpty());
  // A window that no context can outgrow is none, and yet the positions are its own.
  json["sliding_window"] = 4096;
  EXPECT_EQ(parse(json).layer_window(0), 0);
  EXPECT_EQ(parse(json).layer_rope(0).theta, 5000);

  json = fixture_json("gemma3");
  json["rope_parameters"]["chunked_attention"] = {{"rope_type", "default"}};
  EXPECT_THAT(error_of(json), HasSubstr("and not \"rope_parameters.chunked_attention\""));
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  EXPECT_THAT(error_of(json), HasSubstr("an object for \"full_attention\""));
  json = fixture_json("gemma3");
  json["rope_parameters"]["full_attention"]["rope_type"] = "proportional";
  EXPECT_THAT(error_of(json),
              HasSubstr("\"rope_parameters.full_attention.rope_type\" = \"proportional\""));
  EXPECT_THAT(error_of(changed("gemma3", "rope_scaling", {{"factor", 2}})),
              HasSubstr("absence beside rope_parameters"));
  EXPECT_THAT(error_of(changed("gemma3", "attn_logit_softcapping", 50.0)),
              HasSubstr("\"attn_logit_softcapping\" = 50.0: expected null"));
  // The text model alone.
  EXPECT_THAT(error_of(changed("gemma3", "architectures", {"Gemma3ForConditionalGeneration"})),
              HasSubstr("\"Gemma3ForCausalLM\""));
}

TEST(Config, Longrope) {
  const auto config = fixture("phi3_long");
  EXPECT_EQ(config.rope.type, RopeType::longrope);
  EXPECT_EQ(config.rope.factor, 4.0);  // 512 of 128
  EXPECT_EQ(config.rope.pair_factors.at(1), 1.0625);
  EXPECT_NEAR(config.rope.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(128.0)), 1e-12);
  // Beyond it, other factors would count.
  EXPECT_EQ(config.max_context_tokens, 128);
  Json json = fixture_json("phi3_long");
  for (const char* name : {"su", "yarn"}) {  // as it was called once
    json["rope_parameters"]["rope_type"] = name;
    EXPECT_EQ(parse(json).rope, config.rope);
  }
  json["rope_parameters"]["rope_type"] = "llama3";
  EXPECT_THAT(error_of(json), HasSubstr("all that Phi3ForCausalLM knows"));
  json["rope_parameters"]["rope_type"] = "longrope";
  json["rope_parameters"]["short_factor"] = {1.0, 2.0};
  EXPECT_THAT(error_of(json), HasSubstr("a list of 32 numbers from"));
  json = fixture_json("phi3_long");
  json["rope_parameters"]["short_factor"][3] = "1";
  EXPECT_THAT(error_of(json), HasSubstr("a list of 32 numbers from"));
  // A field of the class without longrope too.
  EXPECT_THAT(parse(changed("phi3", "original_max_position_embeddings", 4096)).ignored_fields,
              IsEmpty());
}

}  // namespace
}  // namespace nereid::model
