// Which kernel a node is given: by its op, by the steps, by what else the kernel takes.
#include "program/lower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace nereid::program {
namespace {

// A kernel of `add`, for steps where `when` holds.
std::string kernel_json(const std::string& name, const std::string& when, bool takes_alpha) {
  return fmt::format(
      R"("{0}": {{"name": "{0}", "source_sha256": "00", "op": "add", "when": "{1}", "params": [
        {{"name": "out_ptr", "role": "out", "types": ["fp32"], "shape": ["n"], "of": "out"}},
        {{"name": "x_ptr", "role": "in", "types": ["fp32"], "shape": ["n"], "of": "x"}},
        {{"name": "y_ptr", "role": "in", "types": ["fp32"], "shape": ["n"], "of": "y"}},
        {{"name": "n", "role": "size", "types": ["i64"], "step": true, "of": "out.elements"}}{2}],
        "grid": ["n", "1", "1"], "bytes": "n", "flops": "n", "tuned": [],
        "default": {{"cpu": {{"num_warps": 1, "num_stages": 1}}}}}})",
      name, when,
      takes_alpha ? R"(, {"name": "alpha", "role": "scalar", "types": ["fp32"], "of": "@alpha"})"
                  : "");
}

KernelTables tables_of(const std::string& kernels) {
  const auto json =
      parse_json(R"({"schema": 1, "triton": "3.9.0", "kernels": {)" + kernels + "}}", "kernels");
  return {kernel::SpecTable::parse(json, "kernels"), {}};
}

std::string kernel_for(const KernelTables& tables, std::int64_t n_tokens,
                       const std::string& attributes = "") {
  const auto graph =
      graph::parse("graph sum {\n  input %x: fp32[T, 8]\n  %out: fp32[T, 8] = add %x, %x" +
                       attributes + "\n  return %out\n}\n",
                   "test");
  return lower(graph, {{.n_tokens = n_tokens}, false, "cpu"}, tables).at(0).spec->name;
}

TEST(Lower, AKernelWithAConditionGoesBeforeOneThatServesAllSteps) {
  const auto tables =
      tables_of(kernel_json("any", "1", true) + "," + kernel_json("many", "rows > 64", true) + "," +
                kernel_json("on_gpus", "gpu", true));
  EXPECT_EQ(kernel_for(tables, 64), "any");
  EXPECT_EQ(kernel_for(tables, 65), "many");
}

TEST(Lower, AKernelTakesAllThatANodeSays) {
  const auto tables =
      tables_of(kernel_json("plain", "rows > 0", false) + "," + kernel_json("scaled", "1", true));
  EXPECT_EQ(kernel_for(tables, 3), "plain");
  EXPECT_EQ(kernel_for(tables, 3, " {alpha = 0.5}"), "scaled");
}

// A kernel of `attention` that reads nothing but q.
std::string attention_json(const std::string& name, const std::string& when,
                           const std::string& design = "") {
  return fmt::format(
      R"("{0}": {{"name": "{0}", "source_sha256": "00", "op": "attention", "when": "{1}",
        "design": "{2}", "params": [
        {{"name": "out_ptr", "role": "out", "types": ["fp32"], "shape": ["n"], "of": "out"}},
        {{"name": "q_ptr", "role": "in", "types": ["fp32"], "shape": ["n"], "of": "q"}},
        {{"name": "n", "role": "size", "types": ["i64"], "step": true, "of": "step.decodes"}}],
        "grid": ["n", "1", "1"], "bytes": "n", "flops": "n", "tuned": [],
        "default": {{"cpu": {{"num_warps": 1, "num_stages": 1}}}}}})",
      name, when, design);
}

TEST(Lower, RowsThatDecodeHaveTheKernelOfDecodingSteps) {
  const auto tables = tables_of(attention_json("of_decodes", "decode") + "," +
                                attention_json("of_prompts", "prompt"));
  const std::string text = R"(graph g {
  input %q: fp32[T, 4, 64]
  state %k: fp16[8, 2, 64, 64]
  state %v: fp16[8, 2, 64, 64]
  input %tables: i32[S, 8]
  input %starts: i32[S+1]
  input %lens: i32[S]
  %out: fp32[T, 4, 64] = attention %q, %k, %v, %tables, %starts, %lens
  return %out
})";
  const auto graph = graph::parse(text, "test");
  const Bounds decode{{.n_sequences = 4, .n_decodes = 4}, true, "cpu"};
  const Bounds mixed{{.n_tokens = 64, .n_sequences = 4, .n_decodes = 4}, false, "cpu"};
  const auto alone = lower(legalise(graph, decode, tables.specs), decode, tables);
  ASSERT_EQ(alone.size(), 1U);
  const auto split = legalise(graph, mixed, tables.specs);
  const auto beside = lower(split, mixed, tables);
  ASSERT_EQ(beside.size(), 2U);
  EXPECT_EQ(beside[0].spec->name, "of_prompts");
  EXPECT_EQ(beside[1].spec->name, "of_decodes");
  EXPECT_EQ(beside[1].choice->key, alone[0].choice->key);
  EXPECT_FALSE(beside[1].is_empty(split, {.n_tokens = 9, .n_sequences = 3, .n_decodes = 2}));
  EXPECT_TRUE(beside[1].is_empty(split, {.n_tokens = 9, .n_sequences = 3, .n_decodes = 0}));
  EXPECT_THROW(lower(graph, mixed, tables), Error) << "no kernel is for all rows";
}

// The request of a decoding step's one attention, whose mask is that text.
kernel::KernelRequest masked(const std::string& mask) {
  const auto tables = KernelTables::builtin();
  const auto text = fmt::format(R"(graph g {{
  input %q: fp32[T, 4, 64]
  state %k: fp16[8, 2, 64, 64]
  state %v: fp16[8, 2, 64, 64]
  input %tables: i32[S, 8]
  input %starts: i32[S+1]
  input %lens: i32[S]
  %out: fp32[T, 4, 64] = attention %q, %k, %v, %tables, %starts, %lens {{mask = "{}"}}
  return %out
}})",
                                mask);
  const Bounds decode{{.n_tokens = 4, .n_sequences = 4, .n_decodes = 4}, true, "cpu"};
  return lower(graph::parse(text, "test"), decode, tables).at(0).choice->request;
}

TEST(Lower, FunctionsArePartOfTheVariantInOneForm) {
  const auto request = masked("causal&window( 9 )");
  EXPECT_EQ(request.kernel, "attention_decode");
  const std::map<std::string, std::string> functions{{"MASK", "causal & window(9)"}};
  EXPECT_EQ(request.functions, functions);
  EXPECT_THAT(request.key(), testing::HasSubstr(R"(},"functions":{"MASK":"causal & window)"));
  EXPECT_EQ(kernel::KernelRequest::from_key(request.key(), "test"), request);
  EXPECT_FALSE(request == masked("causal & window(10)"));
  EXPECT_EQ(request, masked("causal & window(9)"));
}

TEST(Lower, AUsersFileGoesByWhatItHolds) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "lower_test_functions";
  std::filesystem::create_directories(folder / "other");
  const auto own = (folder / "my-own.py").string();
  write_text_file(own, "one");
  write_text_file(folder / "other" / "my-own.py", "one");
  const auto request = masked("causal & " + own + ":odd(2)");
  const std::string name = "my_own_" + sha256_hex("one").substr(0, 12);
  EXPECT_EQ(request.functions.at("MASK"), "causal & " + name + ":odd(2)");
  const std::map<std::string, std::string> files{{name, "one"}};
  EXPECT_EQ(request.function_files, files);
  EXPECT_EQ(request, masked("causal & " + (folder / "other" / "my-own.py").string() + ":odd(2)"));
  write_text_file(own, "another");
  EXPECT_FALSE(request == masked("causal & " + own + ":odd(2)"));
  EXPECT_THROW(masked((folder / "none.py").string() + ":odd"), Error);
  std::filesystem::remove_all(folder);
}

TEST(Lower, ADesignComputesWhatItServesWhereItIsAskedFor) {
  const auto tables = tables_of(attention_json("a_decodes", "decode") + "," +
                                attention_json("b_prompts", "prompt") + "," +
                                attention_json("c_split", "decode", "split"));
  const auto graph = graph::parse(R"(graph g {
  input %q: fp32[T, 4, 64]
  state %k: fp16[8, 2, 64, 64]
  state %v: fp16[8, 2, 64, 64]
  input %tables: i32[S, 8]
  input %starts: i32[S+1]
  input %lens: i32[S]
  %out: fp32[T, 4, 64] = attention %q, %k, %v, %tables, %starts, %lens
  return %out
})",
                                  "test");
  const auto kernels = [&](const std::string& design) {
    Bounds bounds{{.n_tokens = 64, .n_sequences = 4, .n_decodes = 4}, false, "cpu"};
    bounds.attention = design;
    std::vector<std::string> names;
    for (const auto& launch : lower(legalise(graph, bounds, tables.specs), bounds, tables))
      names.push_back(launch.spec->name);
    return names;
  };
  EXPECT_THAT(kernels(""), testing::ElementsAre("b_prompts", "a_decodes"));
  EXPECT_THAT(kernels("split"), testing::ElementsAre("b_prompts", "c_split"));
}

TEST(Lower, AKernelComputesTheTypesThatItTakes) {
  auto halves = kernel_json("halves", "rows > 0", false);
  for (std::size_t at = 0; (at = halves.find("fp32", at)) != std::string::npos;)
    halves.replace(at, 4, "fp16");
  const auto tables = tables_of(kernel_json("floats", "1", false) + "," + halves);
  EXPECT_EQ(kernel_for(tables, 3), "floats");
  EXPECT_THROW(kernel_for(tables_of(halves), 3), Error);
}

// The kernels of a linear with a norm, whose weights and scales are of those types.
std::vector<std::string> kernels_of_linear(const std::string& weight, const std::string& scale,
                                           std::int64_t n_tokens, const std::string& target,
                                           std::int64_t n_in = 384, bool multiplies_bytes = true,
                                           bool has_fp8_activations = false) {
  const auto tables = KernelTables::builtin();
  const auto graph = graph::parse(
      fmt::format("graph g {{\n  input %x: {0}[T, {1}]\n  weight %g: fp16[{1}]\n  weight %w: {2}\n"
                  "  weight %s: {3}\n  %y: {0}[T, 64] = linear %x, %w, norm = %g, scale = %s\n"
                  "  return %y\n}}\n",
                  target == "cpu" ? "fp32" : "fp16", n_in, weight, scale),
      "test");
  Bounds bounds{{.n_tokens = n_tokens, .n_sequences = 4}, false, target};
  bounds.multiplies_bytes = multiplies_bytes;
  bounds.has_fp8_activations = has_fp8_activations;
  const auto legal = legalise(graph, bounds, tables.specs);
  verify(legal);
  std::vector<std::string> names;
  for (const auto& launch : lower(legal, bounds, tables)) names.push_back(launch.spec->name);
  return names;
}

TEST(Lower, ProductsOfQuantisedWeightsAreOfIntegersOnAProcessor) {
  using testing::Contains;
  using testing::ElementsAre;
  using testing::Not;
  const auto of_integers = ElementsAre("rms_norm", "quantize_rows", "linear_int8");
  EXPECT_THAT(kernels_of_linear("i8[64, 384]", "fp32[64, 1]", 64, "cpu"), of_integers);
  EXPECT_THAT(kernels_of_linear("i8[64, 384]", "fp32[64, 1]", 513, "cpu"), of_integers);
  EXPECT_THAT(kernels_of_linear("i8[64, 384]", "fp32[64, 1]", 8, "cpu"), of_integers);
  EXPECT_THAT(kernels_of_linear("u8[64, 192]", "fp16[64, 3]", 64, "cpu"), of_integers);
  EXPECT_THAT(kernels_of_linear("i8[64, 96]", "fp16[64, 3]", 64, "cpu", 96), of_integers);
  const auto of_few_rows = ElementsAre("rms_norm", "quantize_rows", "linear_int8_gemv");
  EXPECT_THAT(kernels_of_linear("i8[64, 384]", "fp32[64, 1]", 4, "cpu"), of_few_rows);
  EXPECT_THAT(kernels_of_linear("u8[64, 192]", "fp16[64, 3]", 1, "cpu"), of_few_rows);
  EXPECT_THAT(kernels_of_linear("fp8e4nv[64, 384]", "fp32[64, 1]", 4, "cpu"),
              ElementsAre("linear_gemv"));
  EXPECT_THAT(kernels_of_linear("u8[64, 192]", "fp16[64, 3]", 1, "cpu", 384, false),
              ElementsAre("linear_gemv"));
  const auto is_of_integers = Contains("linear_int8");
  EXPECT_THAT(kernels_of_linear("fp8e4nv[64, 384]", "fp32[64, 1]", 64, "cpu"), Not(is_of_integers));
  EXPECT_THAT(kernels_of_linear("i8[64, 384]", "fp32[64, 1]", 64, "cuda:90"), Not(is_of_integers));
  EXPECT_THAT(kernels_of_linear("i8[64, 384]", "fp32[64, 1]", 64, "cpu", 384, false),
              ElementsAre("rms_norm", "linear_skinny"));
  // No group of 32 columns; a block of packed bytes that is half there.
  EXPECT_THAT(kernels_of_linear("i8[64, 100]", "fp32[64, 1]", 64, "cpu", 100), Not(is_of_integers));
  EXPECT_THAT(kernels_of_linear("u8[64, 128]", "fp16[64, 3]", 64, "cpu", 192), Not(is_of_integers));
}

TEST(Lower, ProductsOfManyRowsAreOf8BitFloatsWhereAskedFor) {
  using testing::Contains;
  using testing::ElementsAre;
  using testing::Not;
  const auto is_of_floats = Contains("linear_fp8");
  for (const char* target : {"cpu", "cuda:90"}) {
    const auto kernels = [&](const std::string& weight, const std::string& scale,
                             std::int64_t n_tokens, bool is_asked = true) {
      return kernels_of_linear(weight, scale, n_tokens, target, 384, true, is_asked);
    };
    // The norm is computed with the rounding of its rows.
    for (const std::int64_t n_tokens : {65, 128, 512, 513, 2048})
      EXPECT_THAT(kernels("fp8e4nv[64, 384]", "fp32[64, 1]", n_tokens),
                  ElementsAre("quantize_rows_fp8", "linear_fp8"))
          << target << n_tokens;
    EXPECT_THAT(kernels("fp8e4nv[64, 384]", "fp16[64, 1]", 128), is_of_floats);
    for (const std::int64_t n_tokens : {1, 16, 64})
      EXPECT_THAT(kernels("fp8e4nv[64, 384]", "fp32[64, 1]", n_tokens), Not(is_of_floats));
    EXPECT_THAT(kernels("fp8e4nv[64, 384]", "fp32[64, 1]", 512, false), Not(is_of_floats));
    EXPECT_THAT(kernels("fp8e4nv[64, 384]", "fp32[64, 3]", 512), Not(is_of_floats));
    EXPECT_THAT(kernels("fp8e5[64, 384]", "fp32[64, 1]", 512), Not(is_of_floats));
    EXPECT_THAT(kernels("i8[64, 384]", "fp32[64, 1]", 512), Not(is_of_floats));
  }
}

TEST(Lower, ANodeWithoutAKernelIsNamed) {
  const auto tables = tables_of(kernel_json("few", "rows <= 8", false));
  try {
    kernel_for(tables, 9);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "%out: no kernel computes add for steps of up to 9 rows on cpu");
  }
}

}  // namespace
}  // namespace nereid::program
