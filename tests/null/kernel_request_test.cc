#include "kernel/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "kernel/builtin.h"
#include "kernel/spec.h"
#include "kernel/tuning.h"

namespace nereid::kernel {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A spec that uses every rule: a given, a tuned and derived constexprs, a step size, two types,
// sizeof.
constexpr const char* kSpecs = R"text({"schema": 1, "triton": "3.9.0", "kernels": {"mul": {
  "name": "mul", "source_sha256": "00",
  "params": [
    {"name": "out_ptr", "role": "out", "types": ["fp32", "fp16"], "shape": ["n_rows", "n_cols"]},
    {"name": "w_ptr", "role": "in", "types": ["fp16", "bf16"], "shape": ["n_cols"]},
    {"name": "n_rows", "role": "size", "types": ["i32"], "step": true},
    {"name": "n_cols", "role": "size", "types": ["i32"]},
    {"name": "stride", "role": "stride", "types": ["i64", "i32"]},
    {"name": "eps", "role": "scalar", "types": ["fp32"]},
    {"name": "HAS_BIAS", "role": "constexpr", "value": null},
    {"name": "BLOCK", "role": "constexpr", "value": null},
    {"name": "SPLITS", "role": "constexpr", "value": "cdiv(n_cols, BLOCK * WIDTH)"},
    {"name": "WIDTH", "role": "constexpr", "value": "4 // sizeof(w_ptr)"}],
  "grid": ["cdiv(n_rows, BLOCK)", "SPLITS", "1"], "bytes": "n_rows * n_cols", "flops": "n_rows",
  "tuned": ["BLOCK"],
  "default": {"cpu": {"BLOCK": "64 if n_cols > 1000 else 16", "num_warps": 1, "num_stages": 1},
              "cuda": {"BLOCK": 128, "num_warps": "4 if SPLITS > 1 else 2", "num_stages": 3}}}}})text";

constexpr const char* kTuning = R"({"kernel": "mul", "target": "cuda:90", "rows": [
  {"when": {"n_cols": [4096, 8192], "HAS_BIAS": 1}, "choice": {"BLOCK": 32, "num_warps": 8}, "note": "wide"},
  {"when": {"n_cols": [1, 8192]}, "choice": {"BLOCK": 256}, "note": ""}]})";

SpecTable specs() { return SpecTable::parse(parse_json(kSpecs, "test"), "test"); }

Problem problem(std::int64_t n_cols) {
  Problem result;
  result.pointers = {{"out_ptr", DType::fp32}, {"w_ptr", DType::fp16}};
  result.sizes = {{"n_cols", n_cols}, {"stride", n_cols}};
  result.constexprs = {{"HAS_BIAS", 1}};
  return result;
}

template <typename Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string request_error(const Problem& asked, const char* target = "cpu") {
  return error_of([&] { make_request(specs().get("mul"), {}, target, asked); });
}

TEST(Request, TakesDefaultsAndDerivesTheRest) {
  const auto table = specs();
  const auto chosen = make_request(table.get("mul"), {}, "cpu", problem(384));
  EXPECT_EQ(chosen.why, "default of cpu");
  EXPECT_EQ(chosen.key(),
            R"({"args":{"eps":"fp32","n_cols":"i32:16","n_rows":"i32","out_ptr":"*fp32:16",)"
            R"("stride":"i64:16","w_ptr":"*fp16:16"},)"
            R"("constexprs":{"BLOCK":16,"HAS_BIAS":1,"SPLITS":12,"WIDTH":2},"kernel":"mul",)"
            R"("num_stages":1,"num_warps":1,"options":{}})");
  EXPECT_EQ(KernelRequest::from_key(chosen.key(), "test"), chosen);
}

TEST(Request, KeysAreWhatAJsonLibraryWrites) {
  KernelRequest request;
  EXPECT_EQ(request.key(), parse_json(request.key(), "an empty request").dump());
  request.kernel = "a \"quoted\" \\ name\n\x7f \xc3\xa9";
  request.args = {{"x\t", "*fp16"}, {"n", "i32:16"}};
  request.constexprs = {{"LEAST", INT64_MIN}, {"MOST", INT64_MAX}, {"ZERO", 0}};
  request.options = {{"maxnreg", 128}};
  request.num_warps = 8;
  EXPECT_EQ(request.key(), parse_json(request.key(), "a request").dump());
  EXPECT_EQ(KernelRequest::from_key(request.key(), "test").constexprs, request.constexprs);
}

TEST(Request, SaysWhatDivides) {
  const auto table = specs();
  Problem asked = problem(1001);
  asked.unaligned = {"w_ptr"};
  asked.types = {{"stride", "i32"}};
  const auto request = make_request(table.get("mul"), {}, "cpu", asked);
  EXPECT_EQ(request.args.at("n_cols"), "i32");
  EXPECT_EQ(request.args.at("stride"), "i32");
  EXPECT_EQ(request.args.at("w_ptr"), "*fp16");
  EXPECT_EQ(request.args.at("out_ptr"), "*fp32:16");
  EXPECT_EQ(request.constexprs.at("BLOCK"), 64);
}

TEST(Request, TakesTheFirstTuningRowThatHolds) {
  const auto table = specs();
  TuningTable tuning;
  tuning.add(parse_json(kTuning, "test"), table, "test");
  const auto wide = make_request(table.get("mul"), tuning, "cuda:90", problem(4096));
  EXPECT_EQ(wide.why, "tuning of cuda:90: wide");
  EXPECT_EQ(wide.constexprs.at("BLOCK"), 32);
  EXPECT_EQ(wide.num_warps, 8);
  EXPECT_EQ(wide.num_stages, 3);  // left out by the row
  auto without_bias = problem(4096);
  without_bias.constexprs["HAS_BIAS"] = 0;
  EXPECT_EQ(make_request(table.get("mul"), tuning, "cuda:90", without_bias).constexprs.at("BLOCK"),
            256);
  EXPECT_EQ(make_request(table.get("mul"), tuning, "cuda:90", problem(8193)).why,
            "default of cuda");
  EXPECT_EQ(make_request(table.get("mul"), tuning, "cuda:80", problem(4096)).why,
            "default of cuda");
}

TEST(Request, RefusesWhatItDoesNotUnderstand) {
  auto asked = problem(384);
  asked.pointers.erase("w_ptr");
  EXPECT_EQ(request_error(asked), "kernel mul: the element type of w_ptr is missing");
  asked = problem(384);
  asked.pointers["w_ptr"] = DType::fp32;
  EXPECT_EQ(request_error(asked), "kernel mul: w_ptr cannot be fp32");
  asked = problem(384);
  asked.constexprs.clear();
  EXPECT_EQ(request_error(asked), "kernel mul: the constexpr HAS_BIAS is missing");
  asked = problem(384);
  asked.constexprs["BLOCK"] = 3;
  EXPECT_THAT(request_error(asked), HasSubstr("\"BLOCK\" is no constexpr that the planner gives"));
  asked = problem(384);
  asked.sizes["n_rows"] = 3;
  EXPECT_THAT(request_error(asked), HasSubstr("\"n_rows\" is no size or stride that is known"));
  asked = problem(384);
  asked.sizes.erase("n_cols");
  EXPECT_THAT(request_error(asked), HasSubstr("needs n_cols, which is not known when planning"));
  EXPECT_THAT(request_error(problem(std::int64_t{1} << 40)), HasSubstr("does not fit i32"));
  EXPECT_THAT(request_error(problem(384), "hip:gfx942"), HasSubstr("no choice for target"));
}

TEST(Spec, RefusesWhatIsWrong) {
  const auto error_with = [](std::string_view from, std::string_view to) {
    std::string text = kSpecs;
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos);
    text.replace(at, from.size(), to);
    return error_of([&] { SpecTable::parse(parse_json(text, "specs"), "specs"); });
  };
  EXPECT_THAT(error_with("\"schema\": 1", "\"schema\": 2"), HasSubstr("expected schema 1, got 2"));
  EXPECT_THAT(error_with("cdiv(n_rows, BLOCK)", "cdiv(rows, BLOCK)"),
              AllOf(HasSubstr("kernel mul, grid"), HasSubstr("reads rows")));
  EXPECT_THAT(error_with("\"role\": \"out\"", "\"role\": \"output\""), HasSubstr("unknown role"));
  EXPECT_THAT(error_with("[\"BLOCK\"]", "[\"BLOCKS\"]"), HasSubstr("\"BLOCKS\" is no constexpr"));
  EXPECT_THAT(error_with("\"BLOCK\": 128, ", ""), HasSubstr("default cuda: says nothing of BLOCK"));
  EXPECT_THAT(error_with("\"name\": \"n_cols\"", "\"name\": \"n_rows\""),
              HasSubstr("appears twice"));
  EXPECT_THAT(error_with("\"name\": \"mul\"", "\"name\": \"sum\""),
              HasSubstr("calls itself \"sum\""));
  EXPECT_THAT(error_of([] { specs().get("absent"); }), HasSubstr("no kernel \"absent\""));
}

TEST(Tuning, RefusesRowsThatNameNothing) {
  const auto error_with = [](const char* rows) {
    TuningTable table;
    const auto text = fmt::format(R"({{"kernel": "mul", "target": "cpu", "rows": [{}]}})", rows);
    return error_of([&] { table.add(parse_json(text, "t"), specs(), "t"); });
  };
  EXPECT_THAT(error_with(R"({"when": {"n_col": 1}, "choice": {}})"),
              HasSubstr("\"n_col\" is not known"));
  EXPECT_THAT(error_with(R"({"when": {"BLOCK": 1}, "choice": {}})"),
              HasSubstr("\"BLOCK\" is not known"));
  EXPECT_THAT(error_with(R"({"when": {}, "choice": {"WIDTH": 1}})"), HasSubstr("not tunable"));
  EXPECT_THAT(error_with(R"({"when": {"n_cols": "big"}, "choice": {}})"), HasSubstr("[low, high]"));
  EXPECT_EQ(error_with(R"({"when": {"n_cols": [1, 2]}, "choice": {"BLOCK": 8}})"), "no error");
}

// Of a size that steps set, a row sees the most that the plan serves.
TEST(Tuning, MayAskForTheRowsOfAPlan) {
  TuningTable table;
  const auto text = R"({"kernel": "mul", "target": "cuda:90", "rows": [
    {"when": {"n_rows": [1, 64]}, "choice": {"BLOCK": 16}},
    {"when": {"n_rows": [65, 4096]}, "choice": {"BLOCK": 32}}]})";
  table.add(parse_json(text, "t"), specs(), "t");
  const auto block_for = [&](std::int64_t largest) {
    auto asked = problem(384);
    if (largest > 0) asked.largest["n_rows"] = largest;
    const auto spec_table = specs();
    return make_request(spec_table.get("mul"), table, "cuda:90", asked).constexprs.at("BLOCK");
  };
  EXPECT_EQ(block_for(64), 16);
  EXPECT_EQ(block_for(65), 32);
  EXPECT_EQ(block_for(5000), 128);
  EXPECT_EQ(block_for(0), 128);  // nothing known
  auto asked = problem(384);
  asked.largest["n_cols"] = 384;
  const auto spec_table = specs();
  EXPECT_THAT(error_of([&] { make_request(spec_table.get("mul"), table, "cuda:90", asked); }),
              HasSubstr("\"n_cols\" is no size that steps set"));
}

TEST(Builtin, CarriesSpecsAndTuningOfThisBuild) {
  const auto table = SpecTable::builtin();
  EXPECT_FALSE(table.triton_version().empty());
  ASSERT_NE(table.find("rms_norm"), nullptr);
  EXPECT_EQ(table.get("rms_norm").source_sha256.size(), 64u);
  EXPECT_NO_THROW(TuningTable::builtin(table));
  EXPECT_NO_THROW(TuningTable::builtin(table, "cuda:90"));
  EXPECT_EQ(builtin_ttir_sha256().size(), 64u);
  EXPECT_EQ(builtin_planner_sha256().size(), 64u);
}

}  // namespace
}  // namespace nereid::kernel
