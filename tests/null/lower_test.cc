// Which kernel a node is given: by its op, by the steps, by what else the kernel takes.
#include "program/lower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"

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
