// What config.json says of quantised weights: every published form, those that are written, and
// what is refused.
#include "model/quantization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/usage_error.h"
#include "model/quantization_config.h"

namespace nereid::model {
namespace {

using testing::HasSubstr;

Json compressed(const Json& weights, const std::string& format) {
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}}, {"weights", weights}, {"input_activations", nullptr}}}}},
          {"ignore", {"lm_head"}},
          {"kv_cache_scheme", nullptr},
          {"quantization_status", "compressed"}};
}

const Json kGptq{{"quant_method", "gptq"},
                 {"bits", 4},
                 {"group_size", 128},
                 {"desc_act", true},
                 {"sym", true},
                 {"damp_percent", 0.1},
                 {"lm_head", false},
                 {"true_sequential", true}};
const Json kAwq{{"quant_method", "awq"}, {"bits", 4},         {"group_size", 64},
                {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", nullptr}};
const Json kBlocks{{"quant_method", "fp8"},
                   {"activation_scheme", "dynamic"},
                   {"fmt", "e4m3"},
                   {"weight_block_size", {128, 128}}};
const Json kInt4 = compressed({{"num_bits", 4},
                               {"type", "int"},
                               {"symmetric", false},
                               {"strategy", "group"},
                               {"group_size", 32}},
                              "pack-quantized");
const Json kInt8 =
    compressed({{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "channel"}},
               "int-quantized");
const Json kFloat8 =
    compressed({{"num_bits", 8}, {"type", "float"}, {"symmetric", true}, {"strategy", "tensor"}},
               "float-quantized");

const Json kCacheScheme{{"num_bits", 8},       {"type", "float"},  {"strategy", "tensor"},
                        {"symmetric", true},   {"dynamic", false}, {"group_size", nullptr},
                        {"observer", "minmax"}};
const Json kFloat8Cache = [] {
  Json config = kFloat8;
  config["kv_cache_scheme"] = kCacheScheme;
  return config;
}();

Quantization parsed(const Json& config, DType weights = DType::bf16) {
  return Quantization::parse(config, "config.json", weights);
}

std::string error_of(const Json& config) {
  try {
    parsed(config);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

Json with(Json config, const std::string& name, const Json& value) {
  config[name] = value;
  return config;
}

TEST(Quantization, PublishedForms) {
  struct Row {
    Json config;
    WeightPacking packing;
    WeightFormat format;  // of 256 columns
  };
  for (const Row& row : std::vector<Row>{
           {kGptq, WeightPacking::gptq, {DType::u8, 2, DType::bf16, false}},
           {with(kGptq, "sym", false), WeightPacking::gptq, {DType::u8, 2, DType::bf16, true}},
           {with(kGptq, "group_size", -1), WeightPacking::gptq, {DType::u8, 1, DType::bf16}},
           {kAwq, WeightPacking::awq, {DType::u8, 4, DType::bf16, true}},
           {kBlocks, WeightPacking::blocks, {DType::fp8e4nv, 2}},
           {{{"quant_method", "fp8"}, {"activation_scheme", "static"}},
            WeightPacking::rows,
            {DType::fp8e4nv, 1}},
           {{{"quant_method", "fbgemm_fp8"}, {"activation_scale_ub", 1200.0}},
            WeightPacking::rows,
            {DType::fp8e4nv, 1}},
           {kInt4, WeightPacking::compressed, {DType::u8, 8, DType::bf16, true}},
           {kInt8, WeightPacking::rows, {DType::i8, 1}},
           {with(kInt8, "format", "pack-quantized"), WeightPacking::compressed, {DType::i8, 1}},
           {kFloat8, WeightPacking::rows, {DType::fp8e4nv, 1}}}) {
    const auto quantization = parsed(row.config);
    EXPECT_EQ(quantization.packing, row.packing) << row.config;
    EXPECT_EQ(quantization.format_of("model.layers.3.mlp.up_proj", 256), row.format) << row.config;
    EXPECT_FALSE(quantization.format_of("lm_head", 256)) << row.config;
  }
  EXPECT_EQ(parsed(kGptq).zero_add, 1);
  EXPECT_TRUE(parsed(kGptq).has_order);
  EXPECT_EQ(parsed(with(kGptq, "checkpoint_format", "gptq_v2")).zero_add, 0);
}

// A scheme that is not read is no error before a cache of 8 bits is asked for.
TEST(Quantization, ActivationsThatACheckpointIsMadeFor) {
  const auto of_group = [](Json config, const Json& activations) {
    config["config_groups"]["group_0"]["input_activations"] = activations;
    return config;
  };
  const Json floats{{"num_bits", 8}, {"type", "float"}, {"strategy", "token"}, {"dynamic", true}};
  const Json integers{{"num_bits", 8}, {"type", "int"}, {"strategy", "token"}, {"dynamic", true}};
  EXPECT_TRUE(parsed(of_group(kFloat8, floats)).has_fp8_activations);
  EXPECT_TRUE(
      parsed({{"quant_method", "fp8"}, {"activation_scheme", "static"}}).has_fp8_activations);
  EXPECT_TRUE(parsed({{"quant_method", "fbgemm_fp8"}}).has_fp8_activations);
  for (const Json& config : {kFloat8, of_group(kFloat8, integers), of_group(kInt8, integers),
                             of_group(kInt8, floats), Json{{"quant_method", "fp8"}}, kGptq, kAwq})
    EXPECT_FALSE(parsed(config).has_fp8_activations) << config;
  EXPECT_TRUE(parsed(kFloat8).is_fp8_by_rows());
  for (const Json& config : {kBlocks, kInt8, kInt4, kGptq})
    EXPECT_FALSE(parsed(config).is_fp8_by_rows()) << config;
}

TEST(Quantization, SchemesOfTheCache) {
  EXPECT_FALSE(parsed(kFloat8).has_cache_scales);
  EXPECT_EQ(parsed(kFloat8).cache_refusal, "");
  EXPECT_TRUE(parsed(kFloat8Cache).has_cache_scales);
  EXPECT_EQ(parsed(kFloat8Cache).cache_refusal, "");
  struct Row {
    Json scheme;
    std::string got;
  };
  for (const auto& [scheme, got] :
       std::vector<Row>{{with(kCacheScheme, "num_bits", 4), "\"num_bits\": 4"},
                        {with(kCacheScheme, "type", "int"), "\"type\": \"int\""},
                        {with(kCacheScheme, "type", nullptr), "\"type\": \"int\""},
                        {with(kCacheScheme, "strategy", "channel"), "\"strategy\": \"channel\""},
                        {with(kCacheScheme, "symmetric", false), "\"symmetric\": false"},
                        {with(kCacheScheme, "dynamic", true), "\"dynamic\": true"},
                        {"static", "\"static\""}}) {
    const auto quantization = parsed(with(kFloat8, "kv_cache_scheme", scheme));
    EXPECT_FALSE(quantization.has_cache_scales) << scheme;
    EXPECT_THAT(quantization.cache_refusal, HasSubstr("quantization_config.kv_cache_scheme"));
    EXPECT_THAT(quantization.cache_refusal, HasSubstr("got " + got));
  }
  EXPECT_THAT(parsed(with(kBlocks, "kv_cache_scheme", kCacheScheme)).cache_refusal,
              HasSubstr("of fp8: expected that of compressed-tensors"));
}

TEST(Quantization, ModulesThatAreNot) {
  const std::vector<std::string> modules{"model.layers.0.mlp.up_proj",
                                         "model.layers.10.mlp.up_proj",
                                         "model.layers.1.self_attn.q_proj", "lm_head"};
  struct Row {
    const char* pattern;
    std::vector<bool> is_ignored;
  };
  for (const Row& row :
       std::vector<Row>{{"lm_head", {false, false, false, true}},
                        {"model.layers.1", {false, false, true, false}},
                        {"mlp", {true, true, false, false}},
                        {"up", {false, false, false, false}},
                        {"", {false, false, false, false}},
                        {"re:.*up_proj$", {true, true, false, false}},
                        {"re:up_proj", {false, false, false, false}},
                        {"re:model\\.layers\\.1\\..*", {false, false, true, false}},
                        {"re:", {true, true, true, true}}}) {
    const auto quantization = parsed(with(kInt8, "ignore", {row.pattern}));
    for (std::size_t i = 0; i < modules.size(); ++i)
      EXPECT_EQ(!quantization.format_of(modules[i], 128), row.is_ignored[i])
          << row.pattern << " " << modules[i];
  }
  EXPECT_THAT(error_of(with(kInt8, "ignore", {"re:("})),
              HasSubstr("expected a regular expression"));
  EXPECT_THAT(error_of(with(kInt8, "ignore", {"re:" + std::string(5000, 'a')})),
              HasSubstr("expected at most 4096"));
  const auto endless = parsed(with(kInt8, "ignore", {"re:((\\w|\\.)+)+[!?]"}));
  EXPECT_THROW(endless.format_of("model.layers.0.self_attn.q_proj", 128), Error);
}

TEST(Quantization, WhenLoaded) {
  const auto int8 = Quantization::when_loaded("int8", DType::fp16);
  EXPECT_EQ(int8.format_of("lm_head", 100), (WeightFormat{DType::i8, 1}));
  const auto fp8 = Quantization::when_loaded("fp8", DType::bf16);
  EXPECT_EQ(fp8.format_of("model.layers.0.mlp.up_proj", 77), (WeightFormat{DType::fp8e4nv, 1}));
  const auto int4 = Quantization::when_loaded("int4", DType::bf16);
  for (const auto& [n_in, n_groups] :
       {std::pair(4096, 32), {384, 3}, {192, 3}, {96, 3}, {100, 1}, {83, 1}})
    EXPECT_EQ(int4.format_of("x", n_in), (WeightFormat{DType::u8, n_groups, DType::bf16}));
  EXPECT_EQ(int4.format_of("lm_head", 4096), (WeightFormat{DType::i8, 1}));
  EXPECT_EQ((WeightFormat{DType::u8}.n_columns(300)), 192);
  EXPECT_EQ((WeightFormat{DType::i8}.n_columns(300)), 300);
  EXPECT_THROW(Quantization::when_loaded("int3", DType::fp16), UsageError);
}

TEST(Quantization, RefusesWhatItCannotRead) {
  struct Row {
    Json config;
    const char* message;
  };
  const auto weights = [](const std::string& name, const Json& value) {
    Json config = kInt8;
    config["config_groups"]["group_0"]["weights"][name] = value;
    return config;
  };
  Json two_groups = kInt8;
  two_groups["config_groups"]["group_1"] = two_groups["config_groups"]["group_0"];
  Json others = kInt8;
  others["config_groups"]["group_0"]["targets"] = {"re:.*q_proj"};
  for (const Row& row : std::vector<Row>{
           {{{"bits", 4}}, "\"quantization_config.quant_method\" is missing"},
           {7, "expected a JSON object as \"quantization_config\""},
           {{{"quant_method", "bitsandbytes"}}, "expected \"compressed-tensors\", \"fp8\""},
           {with(kGptq, "bits", 3), "\"quantization_config.bits\" = 3: expected 4"},
           {with(kGptq, "group_size", 0), "group_size"},
           {with(kGptq, "checkpoint_format", "marlin"), "\"gptq\" or \"gptq_v2\""},
           {with(kGptq, "dynamic", {{"-:.*down", Json::object()}}), "dynamic"},
           {with(kAwq, "version", "exllama"), "\"gemm\""},
           {with(kAwq, "zero_point", false), "zero_point"},
           {with(kBlocks, "weight_block_size", {128}), "two numbers"},
           {with(kBlocks, "weight_block_size", {128, 0}), "two numbers"},
           {with(kBlocks, "fmt", "e5m2"), "\"e4m3\""},
           {two_groups, "one format for all modules"},
           {others, "[\"Linear\"]"},
           {weights("num_bits", 6), "int of 4 or 8 bits"},
           {weights("strategy", "token"), "\"channel\""},
           {weights("symmetric", false), "symmetric"},
           {weights("actorder", "group"), "actorder"},
           {with(kInt8, "format", "marlin-24"), "\"pack-quantized\""},
           {with(kFloat8, "format", "pack-quantized"), "for integers only"},
           {with(kInt4, "format", "int-quantized"), "\"pack-quantized\" for 4 bits"},
           {with(kInt8, "transform_config", {{"u", 1}}), "transform_config"},
           {with(kInt8, "quantization_status", "frozen"), "\"compressed\""},
           {with(kInt8, "sparsity_config", {{"format", "sparse-24-bitmask"}}), "dense"},
           {with(kInt8, "ignore", "lm_head"), "a list of names"}})
    EXPECT_THAT(error_of(row.config), HasSubstr(row.message)) << row.config;
  EXPECT_THROW(parsed(kGptq).format_of("x", 200), Error);  // no whole groups
  EXPECT_THROW(parsed(with(kGptq, "group_size", 16)).format_of("x", 256), Error);
}

TEST(Quantization, StoredFormsAreRead) {
  for (const char* name : {"int8", "fp8", "int4"})
    for (const bool has_head : {false, true})
      for (const std::int64_t group : {32, 64, 128}) {
        const auto stored = parsed(quantization_config(name, group, has_head));
        const bool is_int4 = std::string_view(name) == "int4";
        const auto format = stored.format_of("model.layers.3.mlp.up_proj", 384);
        const auto as_loaded = Quantization::when_loaded(name, DType::bf16);
        if (!is_int4 || group == 128) {
          EXPECT_EQ(format, as_loaded.format_of("model.layers.3.mlp.up_proj", 384)) << name;
        }
        EXPECT_EQ(format->n_groups, is_int4 ? 384 / group : 1);
        EXPECT_EQ(stored.format_of("lm_head", 384).has_value(), has_head);
        EXPECT_EQ(stored.q_tensor(), name == std::string_view("fp8") ? "weight" : "weight_packed");
      }
  EXPECT_THROW(quantization_config("int3", 128, false), UsageError);
}

}  // namespace
}  // namespace nereid::model
