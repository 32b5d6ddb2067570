// Tuning without measuring: what a space allows, tables that rows are merged into, and the state of
// an interrupted run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "kernel/request.h"
#include "kernel/spec.h"
#include "kernel/tuning.h"
#include "kernel/tuning_space.h"
#include "measure/tune_state.h"
#include "measure/tuning_file.h"

namespace nereid::measure {
namespace {

using nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kSpecs = R"text({"schema": 1, "triton": "3.9.0", "kernels": {"mul": {
  "name": "mul", "source_sha256": "00",
  "params": [
    {"name": "out_ptr", "role": "out", "types": ["fp32", "fp16"], "shape": ["n_rows", "n_cols"]},
    {"name": "w_ptr", "role": "in", "types": ["fp32", "fp16"], "shape": ["n_cols"]},
    {"name": "n_rows", "role": "size", "types": ["i32"], "step": true},
    {"name": "n_cols", "role": "size", "types": ["i32"]},
    {"name": "HAS_BIAS", "role": "constexpr", "value": null},
    {"name": "BLOCK", "role": "constexpr", "value": null},
    {"name": "LOOP", "role": "constexpr", "value": null},
    {"name": "EVEN", "role": "constexpr", "value": "n_cols % BLOCK == 0"}],
  "grid": ["n_rows", "1", "1"], "bytes": "1", "flops": "1",
  "tuned": ["BLOCK", "LOOP"],
  "default": {"cpu": {"BLOCK": 16, "LOOP": 1, "num_warps": 1, "num_stages": 1},
              "cuda": {"BLOCK": 128, "LOOP": 1, "num_warps": 4, "num_stages": 3}},
  "space": {"cpu": {"BLOCK": [16, 32, "n_cols // 2", "n_cols"], "LOOP": [1, 2],
                    "where": "BLOCK * LOOP <= n_cols and (LOOP == 1 or EVEN) and BLOCK <= 8 * n_rows"},
            "cuda": {"num_warps": [2, 4, 8], "num_stages": [2, 3],
                     "where": "num_warps * num_stages * sizeof(w_ptr) <= 32"}}}}})text";

kernel::SpecTable specs_of(const std::string& text) {
  return kernel::SpecTable::parse(parse_json(text, "specs"), "specs");
}

kernel::Problem problem(std::int64_t n_cols, std::int64_t n_rows, DType weight = DType::fp16) {
  kernel::Problem result;
  result.pointers = {{"out_ptr", DType::fp32}, {"w_ptr", weight}};
  result.sizes = {{"n_cols", n_cols}};
  result.largest = {{"n_rows", n_rows}};
  result.constexprs = {{"HAS_BIAS", 0}};
  return result;
}

std::vector<std::string> candidates(const char* target, const kernel::Problem& asked,
                                    const kernel::TuningTable& tuning = {}) {
  const auto specs = specs_of(kSpecs);
  std::vector<std::string> texts;
  for (const auto& request : kernel::tuning_candidates(specs.get("mul"), tuning, target, asked))
    texts.push_back(fmt::format("{} {} w{} s{}", request.constexprs.at("BLOCK"),
                                request.constexprs.at("LOOP"), request.num_warps,
                                request.num_stages));
  return texts;
}

TEST(TuningSpace, HoldsWhatIsAllowedAndWhatIsChosenNow) {
  // n_cols // 2 is 32 again; 64 x 2 are more columns than there are.
  EXPECT_THAT(candidates("cpu", problem(64, 100)),
              ElementsAre("16 1 w1 s1", "16 2 w1 s1", "32 1 w1 s1", "32 2 w1 s1", "64 1 w1 s1"));
  // Two rows: blocks of 16 at most. 40 columns are no whole blocks of 16.
  EXPECT_THAT(candidates("cpu", problem(64, 2)), ElementsAre("16 1 w1 s1", "16 2 w1 s1"));
  EXPECT_THAT(candidates("cpu", problem(40, 2)), ElementsAre("16 1 w1 s1"));
  // What is chosen now is first, even where the space has no place for it.
  const auto specs = specs_of(kSpecs);
  kernel::TuningTable tuning;
  tuning.add(parse_json(R"({"kernel": "mul", "target": "cpu", "rows": [
               {"when": {}, "choice": {"BLOCK": 8, "LOOP": 4}}]})",
                        "table"),
             specs, "table");
  EXPECT_THAT(candidates("cpu", problem(64, 2), tuning),
              ElementsAre("8 4 w1 s1", "16 1 w1 s1", "16 2 w1 s1"));
  EXPECT_THAT(
      candidates("cuda:90", problem(64, 2)),
      ElementsAre("128 1 w4 s3", "128 1 w2 s2", "128 1 w4 s2", "128 1 w8 s2", "128 1 w2 s3"));
  EXPECT_THAT(candidates("cuda:90", problem(64, 2, DType::fp32)),
              ElementsAre("128 1 w4 s3", "128 1 w2 s2", "128 1 w4 s2", "128 1 w2 s3"));
  EXPECT_TRUE(kernel::has_space(specs.get("mul"), "cuda:80"));
  EXPECT_FALSE(kernel::has_space(specs.get("mul"), "hip:gfx942"));
}

TEST(TuningSpace, IsReadWithCare) {
  const auto error_with = [](std::string_view from, std::string_view to) -> std::string {
    std::string text = kSpecs;
    text.replace(text.find(from), from.size(), to);
    try {
      specs_of(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(error_with("\"num_warps\": [2, 4, 8]", "\"EVEN\": [1]"),
              HasSubstr("space cuda: \"EVEN\" is not tunable"));
  EXPECT_THAT(error_with("[2, 4, 8]", "[]"), HasSubstr("expected a list of values, got []"));
  EXPECT_THAT(error_with("[2, 4, 8]", "4"), HasSubstr("expected a list of values, got 4"));
  EXPECT_THAT(error_with("BLOCK * LOOP <= n_cols", "BLOCK <= columns"), HasSubstr("reads columns"));
  EXPECT_THAT(error_with("\"n_cols // 2\"", "\"num_warps\""), HasSubstr("reads num_warps"));
}

TEST(TuningTable, RowsMayAskForElementSizes) {
  const auto specs = specs_of(kSpecs);
  kernel::TuningTable tuning;
  const auto add = [&](const char* rows) {
    tuning.add(parse_json(fmt::format(R"({{"kernel": "mul", "target": "cpu", "rows": {}}})", rows),
                          "table"),
               specs, "table");
  };
  add(R"t([{"when": {"sizeof(w_ptr)": 4}, "choice": {"BLOCK": 32}}])t");
  const auto block = [&](DType weight) {
    return kernel::make_request(specs.get("mul"), tuning, "cpu", problem(64, 2, weight))
        .constexprs.at("BLOCK");
  };
  EXPECT_EQ(block(DType::fp32), 32);
  EXPECT_EQ(block(DType::fp16), 16);
  EXPECT_THROW(add(R"t([{"when": {"sizeof(n_cols)": 4}, "choice": {}}])t"), Error);
  EXPECT_THROW(add(R"t([{"when": {"w_ptr": 4}, "choice": {}}])t"), Error);
}

MeasuredRow row(Conditions when, std::int64_t block) {
  return {std::move(when), {{"BLOCK", block}}, "measured"};
}

// The blocks that the rows choose, in the order of the table.
std::vector<int> blocks(const ordered_json& table) {
  std::vector<int> result;
  for (const auto& one : table.at("rows")) result.push_back(one.at("choice").at("BLOCK"));
  return result;
}

ordered_json merged(const char* table, const std::vector<MeasuredRow>& rows) {
  return merged_table(table == nullptr ? ordered_json() : ordered_json::parse(table), "mul", "cpu",
                      rows, "table");
}

TEST(TuningFile, StandsBeforeWhatHidesItAndBehindWhatItHides) {
  constexpr const char* kTable = R"({"kernel": "mul", "target": "cpu", "rows": [
    {"when": {"n_cols": 64, "HAS_BIAS": true}, "choice": {"BLOCK": 1}, "note": "special"},
    {"when": {"n_cols": [65, 128]}, "choice": {"BLOCK": 2}, "note": "elsewhere"},
    {"when": {}, "choice": {"BLOCK": "n_cols // 2"}, "note": "general"}]})";
  auto table = merged(kTable, {row({{"n_cols", {64, 64}}}, 3), row({{"n_cols", {32, 32}}}, 4)});
  EXPECT_EQ(table.at("rows")[4].at("choice").at("BLOCK"), "n_cols // 2");
  EXPECT_EQ(table.at("rows")[4].at("note"), "general");
  table.at("rows").erase(4);
  EXPECT_THAT(blocks(table), ElementsAre(1, 4, 3, 2));
  // The same conditions: the row is replaced where it stands. Nothing else moves.
  table = merged(kTable, {row({{"n_cols", {65, 128}}}, 5)});
  table.at("rows").erase(2);
  EXPECT_THAT(blocks(table), ElementsAre(1, 5));
}

TEST(TuningFile, SortsRowsThatDoNotMeet) {
  const auto table =
      merged(nullptr, {row({{"a", {2, 2}}, {"b", {1, 1}}}, 3), row({{"a", {10, 10}}}, 4),
                       row({{"a", {1, 1}}}, 1), row({{"a", {2, 2}}, {"b", {0, 0}}}, 2)});
  EXPECT_THAT(blocks(table), ElementsAre(1, 2, 3, 4));
}

TEST(TuningFile, IsWrittenAsPeopleWriteIt) {
  const auto table = merged(nullptr, {{{{"n_cols", {64, 64}}, {"n_rows", {65, 128}}},
                                       {{"LOOP", 2}, {"BLOCK", 32}},
                                       "1.5 us, 2 before"}});
  const char* text = R"({
 "kernel": "mul",
 "target": "cpu",
 "rows": [
  {
   "when": {"n_cols": 64, "n_rows": [65, 128]},
   "choice": {"LOOP": 2, "BLOCK": 32},
   "note": "1.5 us, 2 before"
  }
 ]
}
)";
  EXPECT_EQ(tuning_text(table), text);
  EXPECT_EQ(tuning_text(ordered_json::parse(text)), text);
  EXPECT_EQ(tuning_text(merged(text, {})), text);
  const auto specs = specs_of(kSpecs);
  kernel::TuningTable tuning;
  tuning.add(parse_json(text, "text"), specs, "text");
  const auto request = kernel::make_request(specs.get("mul"), tuning, "cpu", problem(64, 100));
  EXPECT_EQ(request.constexprs.at("LOOP"), 2);
}

TEST(TuningFile, RefusesWhatIsNoTableOfThisKernel) {
  EXPECT_THROW(merged(R"({"kernel": "add", "target": "cpu", "rows": []})", {}), Error);
  EXPECT_THROW(merged(R"({"kernel": "mul", "target": "cuda:90", "rows": []})", {}), Error);
  EXPECT_THROW(merged(R"({"kernel": "mul", "target": "cpu"})", {}), Error);
  EXPECT_THROW(merged(R"([])", {}), Error);
  EXPECT_THROW(merged(R"({"kernel": "mul", "target": "cpu", "rows": [{"when": {"a": "1"}}]})", {}),
               Error);
}

class State : public testing::Test {
 protected:
  State() { std::filesystem::remove_all(folder_); }
  ~State() override { std::filesystem::remove_all(folder_); }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / fmt::format("nereid-tune-{}", ::getpid());
  const std::filesystem::path path_ = folder_ / "deep" / "cpu.jsonl";
};

TEST_F(State, OutlivesAKilledRun) {
  TuneState first(path_);
  EXPECT_FALSE(first.find("a").has_value());
  first.add("a", {1.5, "2026-11-22"}, "mul BLOCK=16");
  first.add("b", {2.5, "2026-11-22"}, "mul \"BLOCK\"=32");
  const std::string whole = read_text_file(path_);
  // Killed in the middle of the second line.
  std::ofstream(path_, std::ios::binary) << whole.substr(0, whole.size() - 20);
  TuneState second(path_);
  ASSERT_TRUE(second.find("a").has_value());
  EXPECT_EQ(second.find("a")->us, 1.5);
  EXPECT_EQ(second.find("a")->date, "2026-11-22");
  EXPECT_FALSE(second.find("b").has_value());
  second.add("b", {3.5, "2026-11-23"}, "");
  second.add("a", {4.5, "2026-11-23"}, "");
  const TuneState third(path_);
  EXPECT_EQ(third.find("b")->us, 3.5);
  EXPECT_EQ(third.find("a")->us, 4.5);  // the later one
}

TEST_F(State, PassesOverWhatIsNoEntry) {
  std::filesystem::create_directories(path_.parent_path());
  std::ofstream(path_)
      << "[1]\n\n{\"id\": 1, \"us\": 2, \"date\": \"\"}\n{\"id\": \"a\"}\nnot json\n"
         "{\"id\": \"b\", \"us\": 2, \"date\": \"d\"}\n";
  const TuneState state(path_);
  EXPECT_FALSE(state.find("a").has_value());
  EXPECT_EQ(state.find("b")->us, 2);
}

}  // namespace
}  // namespace nereid::measure
