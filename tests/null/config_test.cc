#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <random>

#include "base/json.h"
#include "base/mapped_file.h"
#include "null/config_samples.h"

namespace nereid::model {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(Config, ReadsSizes) {
  const auto config = fixture("llama3");
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.vocab_size, 512);
  EXPECT_EQ(config.hidden_size, 128);
  EXPECT_EQ(config.n_layers, 2);
  EXPECT_EQ(config.n_heads, 4);
  EXPECT_EQ(config.n_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.intermediate_size, 256);
  EXPECT_EQ(config.max_context_tokens, 512);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.dtype, DType::fp16);
  EXPECT_THAT(config.generation.eos_ids, ElementsAre(2));
  EXPECT_THAT(config.ignored_fields, IsEmpty());
  EXPECT_EQ(config.rope, RopeConfig{});
  EXPECT_EQ(config.attention_scale(0), 0.125);
  EXPECT_FALSE(config.tie_word_embeddings);
}

TEST(Config, FamiliesDifferInTheirFacts) {
  struct Row {
    const char* name;
    bool qkv_bias, o_bias, mlp_bias;
    QkNorm qk_norm;
    bool tied;
    std::int64_t window;
    NormPlaces norm_places = NormPlaces::before;
    bool has_fused_projections = false;
  };
  for (const Row& row :
       {Row{"gemma2", false, false, false, QkNorm::none, true, 16, NormPlaces::around},
        Row{"gemma3", false, false, false, QkNorm::head, true, 16, NormPlaces::around},
        Row{"llama3", false, false, false, QkNorm::none, false, 0},
        Row{"llama31_rope", false, false, false, QkNorm::none, false, 0},
        Row{"granite_code", true, true, true, QkNorm::none, true, 0},
        Row{"granite3", false, false, false, QkNorm::none, true, 0},
        Row{"mistral_swa", false, false, false, QkNorm::none, false, 16},
        Row{"olmo2", false, false, false, QkNorm::row, false, 0, NormPlaces::after},
        Row{"phi3", false, false, false, QkNorm::none, false, 16, NormPlaces::before, true},
        Row{"phi3_long", false, false, false, QkNorm::none, false, 0, NormPlaces::before, true},
        Row{"qwen2", true, false, false, QkNorm::none, true, 0},
        Row{"qwen3", false, false, false, QkNorm::head, false, 0}}) {
    SCOPED_TRACE(row.name);
    const auto config = fixture(row.name);
    EXPECT_EQ(config.attention_bias, row.qkv_bias);
    EXPECT_EQ(config.attention_out_bias, row.o_bias);
    EXPECT_EQ(config.mlp_bias, row.mlp_bias);
    EXPECT_EQ(config.qk_norm, row.qk_norm);
    EXPECT_EQ(config.tie_word_embeddings, row.tied);
    EXPECT_EQ(config.layer_window(0), row.window);
    EXPECT_EQ(config.layer_window(1), row.name == std::string("gemma2") ? 0 : row.window);
    EXPECT_EQ(config.norm_places, row.norm_places);
    EXPECT_EQ(config.has_fused_projections, row.has_fused_projections);
  }
}

TEST(Config, GraniteMultipliers) {
  const auto config = fixture("granite3");
  EXPECT_EQ(config.embedding_multiplier, 12.0);
  EXPECT_EQ(config.residual_multiplier, 0.22);
  EXPECT_EQ(config.logits_scaling, 8.0);
  EXPECT_EQ(config.attention_scale(0), 0.0156);
  // Another family's class knows none of them.
  const auto llama = parse(changed("llama3", "embedding_multiplier", 12.0));
  EXPECT_EQ(llama.embedding_multiplier, 1.0);
  EXPECT_THAT(llama.ignored_fields, ElementsAre("embedding_multiplier"));
}

TEST(Config, ShippedConfigsLoad) {
  for (const auto& folder : std::filesystem::directory_iterator(kSource / "configs")) {
    SCOPED_TRACE(folder.path());
    EXPECT_NO_THROW(ModelConfig::load(folder.path()));
  }
  const auto demo = ModelConfig::load(kSource / "models/demo");
  EXPECT_EQ(demo.n_layers, 8);
  EXPECT_THAT(demo.generation.eos_ids, ElementsAre(8184));
}

TEST(Config, OldAndNewFormsSayTheSame) {
  Json json = fixture_json("llama31_rope");
  const RopeConfig expected{.type = RopeType::llama3,
                            .theta = 500000.0,
                            .factor = 8.0,
                            .low_freq_factor = 1.0,
                            .high_freq_factor = 4.0,
                            .original_max_position = 64};
  EXPECT_EQ(parse(json).rope, expected);
  json["rope_scaling"] = json["rope_parameters"];
  json.erase("rope_parameters");
  json["rope_scaling"].erase("rope_theta");
  json["rope_theta"] = 500000;
  EXPECT_EQ(parse(json).rope, expected);
  json["rope_scaling"]["type"] = json["rope_scaling"]["rope_type"];
  EXPECT_EQ(parse(json).rope, expected);
  json["rope_scaling"].erase("rope_type");
  EXPECT_EQ(parse(json).rope, expected);

  json = without("llama3", "rope_parameters");
  EXPECT_EQ(parse(json).rope, RopeConfig{});
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 2.5}};
  EXPECT_EQ(parse(json).rope, (RopeConfig{.type = RopeType::linear, .factor = 2.5}));

  json = without("llama3", "dtype");
  EXPECT_EQ(parse(json).dtype, DType::fp32);
  json["torch_dtype"] = "bfloat16";
  EXPECT_EQ(parse(json).dtype, DType::bf16);
}

// The two forms may stand together where they say the same, in whatever spelling.
TEST(Config, BothFormsOfRope) {
  Json json = fixture_json("llama31_rope");
  const auto rope = parse(json).rope;
  json["rope_scaling"] = json["rope_parameters"];
  json["rope_scaling"]["type"] = "llama3";
  json["rope_scaling"].erase("rope_type");
  json["rope_theta"] = 500000;
  EXPECT_EQ(parse(json).rope, rope);
  json["rope_scaling"]["factor"] = 9;
  EXPECT_THAT(error_of(json), HasSubstr("the same as rope_parameters"));
}

TEST(Config, KindsOfRope) {
  Json json = without("llama3", "rope_parameters");
  const auto scaled = [&](const Json& scaling) {
    json["rope_scaling"] = scaling;
    return parse(json).rope;
  };
  // Beyond the context only.
  EXPECT_EQ(scaled({{"type", "dynamic"}, {"factor", 4.0}}),
            (RopeConfig{.type = RopeType::dynamic, .factor = 4.0}));

  const RopeConfig yarn = scaled({{"type", "yarn"}, {"factor", 4}});
  EXPECT_EQ(yarn, (RopeConfig{.type = RopeType::yarn,
                              .factor = 4.0,
                              .attention_factor = yarn.attention_factor,
                              .original_max_position = 512}));  // the context's
  EXPECT_NEAR(yarn.attention_factor, 1.1386294361119891, 1e-12);
  json["original_max_position_embeddings"] = 128;
  EXPECT_EQ(scaled({{"rope_type", "yarn"}}).factor, 4.0);  // 512 of 128
  EXPECT_EQ(scaled({{"rope_type", "yarn"}, {"attention_factor", 0.5}}).attention_factor, 0.5);
  EXPECT_NEAR(
      scaled({{"rope_type", "yarn"}, {"factor", 40}, {"mscale", 0.707}, {"mscale_all_dim", 1.0}})
          .attention_factor,
      0.9210423553163399, 1e-12);
  // It scales queries and keys alike.
  json["rope_scaling"] = {{"rope_type", "yarn"}, {"attention_factor", 0.5}};
  EXPECT_EQ(parse(json).attention_scale(0), 0.125 * 0.25);
  EXPECT_THAT(error_of(changed("llama3", "rope_parameters",
                               {{"rope_type", "yarn"}, {"factor", 2}, {"beta_fast", "32"}})),
              HasSubstr("\"rope_parameters.beta_fast\" = \"32\": expected a number"));
}

// As the classes of transformers have them.
TEST(Config, AbsentFieldsHaveTheDefaultsOfTheClass) {
  struct Row {
    const char* name;
    std::int64_t n_kv_heads, head_dim, max_context, window;
    double eps = 1e-6;
  };
  for (const Row& row : {Row{"llama3", 64, 2, 2048, 0}, Row{"granite3", 64, 2, 2048, 0},
                         Row{"mistral_swa", 8, 2, 131072, 4096}, Row{"qwen2", 32, 2, 32768, 0},
                         Row{"qwen3", 32, 128, 32768, 0}, Row{"olmo2", 64, 2, 2048, 0, 1e-5},
                         Row{"phi3", 64, 2, 4096, 0, 1e-5}}) {
    SCOPED_TRACE(row.name);
    Json json = fixture_json(row.name);
    json["num_attention_heads"] = 64;
    for (const char* field :
         {"num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps",
          "rope_parameters", "hidden_act", "tie_word_embeddings", "sliding_window", "dtype",
          "attention_bias", "mlp_bias", "use_sliding_window", "max_window_layers", "layer_types"})
      json.erase(field);
    const auto config = parse(json);
    EXPECT_EQ(config.n_kv_heads, row.n_kv_heads);
    EXPECT_EQ(config.head_dim, row.head_dim);
    EXPECT_EQ(config.max_context_tokens, row.max_context);
    EXPECT_EQ(config.layer_window(1), row.window);
    EXPECT_EQ(config.rms_norm_eps, row.eps);
    EXPECT_EQ(config.rope, RopeConfig{});
    EXPECT_FALSE(config.tie_word_embeddings);
    // Null is not absence.
    json["num_key_value_heads"] = nullptr;
    EXPECT_EQ(parse(json).n_kv_heads, 64);
  }
  Json json = without("granite3", "attention_multiplier");
  EXPECT_EQ(parse(json).attention_scale(0), 1.0);
  EXPECT_THAT(error_of(without("mistral_swa", "num_key_value_heads")),
              HasSubstr("\"num_key_value_heads\" = 8: expected a divisor"));
}

TEST(Config, Architectures) {
  EXPECT_EQ(parse(changed("llama3", "architectures", {"LlamaModel"})).architecture,
            "LlamaForCausalLM");
  EXPECT_EQ(parse(changed("qwen2", "architectures", {"Other", "Qwen2ForCausalLM"})).architecture,
            "Qwen2ForCausalLM");
  EXPECT_EQ(parse(without("qwen3", "architectures")).architecture, "Qwen3ForCausalLM");
  EXPECT_EQ(parse(changed("mistral_swa", "architectures", Json::array())).architecture,
            "MistralForCausalLM");
  Json json = without("llama3", "architectures");
  json["model_type"] = "bert";
  EXPECT_THAT(error_of(json), HasSubstr("\"model_type\" = \"bert\""));
  json.erase("model_type");
  EXPECT_THAT(error_of(json), HasSubstr("\"architectures\" is missing"));
}

TEST(Config, SlidingWindows) {
  EXPECT_EQ(parse(changed("mistral_swa", "sliding_window", nullptr)).layer_window(0), 0);
  // Larger than the context of 512: no window at all.
  EXPECT_EQ(parse(changed("mistral_swa", "sliding_window", 512)).layer_window(0), 0);
  EXPECT_EQ(parse(changed("mistral_swa", "sliding_window", 511)).layer_window(0), 511);
  Json json = without("mistral_swa", "sliding_window");
  json["max_position_embeddings"] = 32768;
  EXPECT_EQ(parse(json).layer_window(0), 4096);

  json = fixture_json("qwen2");
  json["sliding_window"] = 100;
  EXPECT_EQ(parse(json).layer_window(1), 0);  // not used
  json["use_sliding_window"] = true;
  json["max_window_layers"] = 1;
  EXPECT_EQ(parse(json).layer_window(1), 0);  // layer_types decide
  json["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_EQ(parse(json).layer_window(0), 100);
  EXPECT_EQ(parse(json).layer_window(1), 0);
  json.erase("layer_types");
  EXPECT_EQ(parse(json).layer_window(0), 0);
  EXPECT_EQ(parse(json).layer_window(1), 100);

  EXPECT_THAT(error_of(changed("qwen2", "layer_types", {"full_attention", "sliding_attention"})),
              HasSubstr("since there is no sliding_window"));
  EXPECT_THAT(error_of(changed("qwen2", "layer_types", {"full_attention"})),
              HasSubstr("expected a list of 2 layers"));
  EXPECT_THAT(error_of(changed("qwen3", "layer_types", {"full_attention", "linear_attention"})),
              HasSubstr("\"linear_attention\""));
  // Llama's class does not know it.
  EXPECT_EQ(parse(changed("llama3", "sliding_window", 100)).layer_window(0), 0);

  // Not used, so any value will do; used, the class's defaults count.
  json = fixture_json("qwen2");
  json["sliding_window"] = "none";
  EXPECT_EQ(parse(json).layer_window(1), 0);
  json["max_position_embeddings"] = 32768;
  json["use_sliding_window"] = true;
  json.erase("sliding_window");
  json.erase("max_window_layers");
  json.erase("layer_types");
  EXPECT_EQ(parse(json).layer_window(1), 0);  // below layer 28
  json["num_hidden_layers"] = 30;
  EXPECT_EQ(parse(json).layer_window(27), 0);
  EXPECT_EQ(parse(json).layer_window(28), 4096);
}

// What files of other programs and years hold beside the model's description.
TEST(Config, HarmlessFields) {
  Json json = fixture_json("llama3");
  json.update(
      {{"transformers.js_config", {{"dtype", "q4"}, {"kv_cache_dtype", {{"fp16", "float16"}}}}},
       {"auto_map", {{"AutoConfig", "configuration_other.OtherConfig"}}},
       {"temperature", 0.6},
       {"top_k", 20},
       {"max_new_tokens", 512},
       {"eos_token_id", -1},
       {"bos_token_id", {1, 2}},
       {"pad_token_id", -1},
       {"hidden_size", 128.0},
       {"num_hidden_layers", 2.0},
       {"rms_norm_eps", 1},
       {"torch_dtype", "bfloat16"},
       {"pretraining_tp", 4},
       {"gradient_checkpointing", true},
       {"rope_interleaved", false},
       {"_name_or_path", "somewhere"}});
  const auto config = parse(json);
  EXPECT_THAT(config.ignored_fields, IsEmpty());
  EXPECT_EQ(config.hidden_size, 128);
  EXPECT_EQ(config.dtype, DType::fp16);  // the newer of the two names
}

TEST(Config, UnknownFieldsAreIgnoredByName) {
  Json json = changed("llama3", "attn_logit_softcapping", 50.0);
  json["a_table"] = {{"x", 1}};
  json["rope_parameters"]["mscale"] = 0.7;
  const auto config = parse(json);
  EXPECT_THAT(config.ignored_fields,
              ElementsAre("rope_parameters.mscale", "a_table", "attn_logit_softcapping"));
  EXPECT_EQ(config.ignored_text(),
            "config.json has fields that LlamaForCausalLM does not know: rope_parameters.mscale, "
            "a_table, attn_logit_softcapping");
  EXPECT_THROW(config.refuse_ignored(), Error);
  // What is off says nothing.
  for (const Json& off : {Json(), Json(false), Json(0), Json(0.0), Json(""), Json::array()})
    EXPECT_EQ(parse(changed("llama3", "attn_logit_softcapping", off)).ignored_text(), "");
  EXPECT_NO_THROW(fixture("llama3").refuse_ignored());
}

TEST(Config, HostileNamesOfIgnoredFieldsAreShort) {
  Json json = changed("llama3", "\x1b[2J", 1);
  json[std::string(100000, 'x')] = 1;
  for (int i = 0; i < 50; ++i) json["y" + std::to_string(i)] = 1;
  const auto text = parse(json).ignored_text();
  EXPECT_LT(text.size(), 400u);
  EXPECT_THAT(text, AllOf(HasSubstr("\\u001b[2J"), HasSubstr("and 40 more")));
}

TEST(Config, RefusesWhatItCannotRun) {
  struct Row {
    const char* field;
    Json value;
    const char* message;
  };
  const std::vector<Row> rows{
      {"architectures", {"GPT2LMHeadModel"}, "[\"GPT2LMHeadModel\"]: expected one of \"Llama"},
      {"architectures", "LlamaForCausalLM", "expected one of"},
      {"hidden_size", nullptr, "\"hidden_size\" is missing"},
      {"hidden_size", 128.5, "\"hidden_size\" = 128.5: expected an integer from 1"},
      {"hidden_size", true, "expected an integer"},
      {"hidden_size", -1, "expected an integer from 1"},
      {"hidden_size", 4294967296, "expected an integer from 1 to 2147483647"},
      {"hidden_size", 18446744073709551615u, "expected an integer"},
      {"num_hidden_layers", 1025, "from 1 to 1024"},
      {"num_key_value_heads", 3, "a divisor of num_attention_heads = 4"},
      {"num_key_value_heads", 8, "from 1 to 4"},
      {"num_attention_heads", 1073741824, "expected at most"},
      {"head_dim", 63, "an even number"},
      {"head_dim", 1073741824, "from 2 to 512"},
      {"hidden_act", "gelu", "\"hidden_act\" = \"gelu\": expected \"silu\""},
      {"rms_norm_eps", 0, "a number above 0"},
      {"rms_norm_eps", "1e-5", "a number above 0"},
      {"tie_word_embeddings", 1, "true or false"},
      {"dtype", "float8_e4m3fn", "\"float8_e4m3fn\": expected \"float16\""},
      {"quantization_config", {{"bits", 4}}, "\"quantization_config.quant_method\" is missing"},
      {"compression_config", 4, "expected a JSON object"},
      {"quantization", {{"group_size", 64}}, "take the model that this one was made from"},
      {"per_layer_config", {{"0", {{"num_key_value_heads", 1}}}}, "all layers have the same sizes"},
      {"is_encoder_decoder", true, "a decoder only"},
      {"layer_types", {"full_attention", "sliding_attention"}, "since there is no sliding_window"},
      {"partial_rotary_factor", 0.5, "\"partial_rotary_factor\" = 0.5: expected 1"},
      {"rope_theta", 5000.0, "\"rope_parameters.rope_theta\" = 10000.0: expected the same"},
      {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}, "the same as rope_parameters"},
      {"rope_parameters", 7, "expected a JSON object as \"rope_parameters\", got 7"},
      {"rope_parameters", {{"rope_type", "mrope"}}, "\"rope_parameters.rope_type\" = \"mrope\""},
      {"rope_parameters", {{"type", "su"}}, "\"rope_parameters.type\" = \"su\""},
      {"rope_parameters", {{"type", "dynamic"}}, "\"rope_parameters.factor\" is missing"},
      {"rope_parameters", {{"rope_type", "longrope"}}, "short_factor\" is missing"},
      {"rope_parameters", {{"rope_type", "linear"}}, "\"rope_parameters.factor\" is missing"},
      {"rope_parameters", {{"rope_type", "linear"}, {"factor", 0.5}}, "1 or more"},
      {"rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}, "by kind of layer"},
      {"rope_parameters",
       {{"rope_type", "llama3"},
        {"factor", 8},
        {"low_freq_factor", 4},
        {"high_freq_factor", 4},
        {"original_max_position_embeddings", 64}},
       "more than low_freq_factor"},
  };
  for (const Row& row : rows)
    EXPECT_THAT(error_of(changed("llama3", row.field, row.value)), HasSubstr(row.message))
        << row.field << " = " << row.value;
  EXPECT_THAT(error_of(Json::array()), HasSubstr("expected a JSON object"));
}

TEST(Config, FolderWithoutConfig) {
  const auto folder =
      std::filesystem::path(testing::TempDir()) / fmt::format("nereid_config_{}", ::getpid());
  std::filesystem::create_directories(folder);
  const auto message = [&] {
    try {
      ModelConfig::load(folder);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message(), AllOf(HasSubstr("config.json not found"),
                               HasSubstr("expected a Hugging Face snapshot directory")));
  write_text_file(folder / "llama.Q4_K_M.gguf", "GGUF");
  EXPECT_THAT(message(), HasSubstr("llama.Q4_K_M.gguf is a GGUF file"));
  // Weights as they should be need no advice.
  write_text_file(folder / "model.safetensors", "x");
  EXPECT_THAT(message(), AllOf(Not(HasSubstr("GGUF")), Not(HasSubstr("model.safetensors"))));
  std::filesystem::create_symlink("../../blobs/1", folder / "config.json");
  EXPECT_THAT(message(), HasSubstr("is a link to ../../blobs/1, which is not there"));
  std::filesystem::remove_all(folder);
}

// Bytes of a real config changed at random, and fields set to values that parsers stumble over.
TEST(Config, HostileFilesAreErrorsOrSane) {
  std::mt19937 random(11);
  const std::vector<Json> values{nullptr,
                                 true,
                                 -1,
                                 0,
                                 1,
                                 3,
                                 1e300,
                                 0.5,
                                 2147483648,
                                 18446744073709551615u,
                                 "",
                                 "x",
                                 Json::array(),
                                 Json::object(),
                                 {1, 2},
                                 {{"rope_type", "llama3"}},
                                 {{"rope_type", "yarn"}, {"factor", 2}}};
  const std::vector<Json> originals{fixture_json("llama31_rope"), fixture_json("qwen2"),
                                    fixture_json("mistral_swa"), fixture_json("granite3")};
  int n_accepted = 0;
  for (int run = 0; run < 6000; ++run) {
    Json json = originals[random() % originals.size()];
    std::string text;
    if (run % 2 == 0) {
      for (int i = 0; i < 3; ++i) {
        auto& object = random() % 4 == 0 ? json["rope_parameters"] : json;
        if (!object.is_object() || object.empty()) continue;
        auto it = object.begin();
        std::advance(it, random() % object.size());
        *it = values[random() % values.size()];
      }
      text = json.dump();
    } else {
      text = json.dump();
      for (std::uint32_t i = random() % 4; i < 4; ++i)
        text[random() % text.size()] =
            char(random() % 3 ? "0123456789,:{}[]\"-eE.tf"[random() % 22] : random() % 256);
      if (random() % 8 == 0) text.resize(random() % text.size());
    }
    try {
      const auto config = ModelConfig::parse(parse_json(text, "fuzz"), "fuzz");
      n_accepted += 1;
      ASSERT_EQ(config.n_heads % config.n_kv_heads, 0) << text;
      ASSERT_EQ(config.head_dim % 2, 0) << text;
      ASSERT_LE(config.head_dim, 512) << text;
      ASSERT_EQ(std::int64_t(config.layer_windows.size()), config.n_layers) << text;
      ASSERT_TRUE(std::isfinite(config.attention_scale(0))) << text;
      ASSERT_LT(config.ignored_text().size(), 2000u) << text;
      for (const float f : rope_inv_freq(config.rope, config.head_dim))
        ASSERT_TRUE(std::isfinite(f)) << text;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(n_accepted, 100);
  EXPECT_LT(n_accepted, 5000);
}

// Reference tables: the formulas of Hugging Face's modeling_rope_utils.py, evaluated in Python.
void expect_table(const std::vector<float>& table, const std::vector<double>& expected) {
  ASSERT_EQ(table.size(), expected.size());
  for (std::size_t i = 0; i < table.size(); ++i)
    EXPECT_NEAR(table[i], expected[i], 2e-7 * expected[i]) << i;
}

TEST(Rope, Default) {
  const auto table = rope_inv_freq(RopeConfig{}, 64);
  ASSERT_EQ(table.size(), 32u);
  EXPECT_EQ(table[0], 1.0F);
  EXPECT_FLOAT_EQ(table[1], 0.749894209F);
  EXPECT_FLOAT_EQ(table[15], 0.0133352143F);
  EXPECT_FLOAT_EQ(table[31], 0.000133352143F);
}

TEST(Rope, Linear) {
  expect_table(rope_inv_freq({.type = RopeType::linear, .factor = 4.0}, 8),
               {0.25, 0.025, 0.0025, 0.00025});
}

TEST(Rope, Llama3AsInTheFixture) {
  expect_table(rope_inv_freq(fixture("llama31_rope").rope, 64), {1,
                                                                 0.663601238,
                                                                 0.440366603,
                                                                 0.205000948,
                                                                 0.0794030092,
                                                                 0.0277513879,
                                                                 0.0106746375,
                                                                 0.00708370268,
                                                                 0.00470075387,
                                                                 0.00311942608,
                                                                 0.00207005501,
                                                                 0.00137369107,
                                                                 0.000911583092,
                                                                 0.000604927668,
                                                                 0.000401430749,
                                                                 0.000266389942,
                                                                 0.000176776695,
                                                                 0.000117309234,
                                                                 7.78465527e-05,
                                                                 5.16590687e-05,
                                                                 3.4281022e-05,
                                                                 2.27489286e-05,
                                                                 1.50962172e-05,
                                                                 1.00178684e-05,
                                                                 6.64786987e-06,
                                                                 4.41153467e-06,
                                                                 2.92749987e-06,
                                                                 1.94269254e-06,
                                                                 1.28917317e-06,
                                                                 8.55496913e-07,
                                                                 5.6770881e-07,
                                                                 3.76732269e-07});
}

TEST(Rope, Llama3AsInLlama32) {
  expect_table(rope_inv_freq(ModelConfig::load(kSource / "configs/llama3.2-1b").rope, 64),
               {1,
                0.663601238,
                0.440366603,
                0.292227823,
                0.193922745,
                0.128687373,
                0.0853971003,
                0.0566696214,
                0.0376060309,
                0.0249554087,
                0.0165604401,
                0.0109895285,
                0.00729266474,
                0.00483942135,
                0.00321144599,
                0.00129054793,
                0.000429556797,
                9.7082878e-05,
                1.94616382e-05,
                1.29147672e-05,
                8.57025549e-06,
                5.68723215e-06,
                3.77405429e-06,
                2.5044671e-06,
                1.66196747e-06,
                1.10288367e-06,
                7.31874968e-07,
                4.85673134e-07,
                3.22293293e-07,
                2.13874228e-07,
                1.41927203e-07,
                9.41830673e-08});
}

TEST(Rope, Yarn) {
  RopeConfig rope{
      .type = RopeType::yarn, .theta = 1e6, .factor = 4.0, .original_max_position = 32768};
  expect_table(rope_inv_freq(rope, 32),
               {1, 0.421696503, 0.177827941, 0.0749894209, 0.0316227766, 0.0133352143,
                0.00477990126, 0.00165996159, 0.00055, 0.000168678601, 4.44569853e-05,
                1.87473552e-05, 7.90569415e-06, 3.33380358e-06, 1.40585331e-06, 5.92843426e-07});
  rope.has_whole_bounds = false;
  expect_table(rope_inv_freq(rope, 32),
               {1, 0.421696503, 0.177827941, 0.0749894209, 0.0316227766, 0.0133352143,
                0.00551727048, 0.00188350244, 0.000607407938, 0.000177344246, 4.44569853e-05,
                1.87473552e-05, 7.90569415e-06, 3.33380358e-06, 1.40585331e-06, 5.92843426e-07});
  rope = {.type = RopeType::yarn, .factor = 4.0, .original_max_position = 64};
  expect_table(rope_inv_freq(rope, 16), {1, 0.237170825, 0.05, 0.00790569415, 0.0025,
                                         0.000790569415, 0.00025, 7.90569415e-05});
}

}  // namespace
}  // namespace nereid::model
