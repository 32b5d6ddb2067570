// Users' operations and sizes: rows read and held against kernels, dimensions as expressions,
// tables that are values; what does not fit is named with its file and line.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "graph/ir.h"
#include "graph/passes/passes.h"
#include "program/graph_planner.h"
#include "program/own_ops.h"

namespace nereid {
namespace {

using graph::OpTable;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

kernel::OwnRow row_of(const std::string& operands, const std::string& results,
                      const std::string& attributes = "", const std::string& in_place = "",
                      const std::string& name = "mine") {
  return {{name, "op.py:1"},
          {operands, "op.py:2"},
          {results, "op.py:3"},
          {in_place, "op.py:4"},
          {attributes, "op.py:5"}};
}

OpTable table_of(const kernel::OwnRow& row) {
  OpTable ops;
  ops.add(row);
  return ops;
}

std::string graph_text(const std::string& node,
                       const std::string& declared = "fp32[rows, cols*6]") {
  return "graph g {\n  size rows\n  size cols\n  input %x: " + declared +
         "\n  state %s: fp32[8]\n  " + node + "\n  return %y\n}\n";
}

TEST(OwnOps, AGraphReadsThemAndIsPrintedAsItWas) {
  const auto ops = table_of(
      row_of("x:float[N,C] bias?:float[C]", "out:=x[N,C//size] sums:i32[2*N+1]", "size:int=1"));
  const auto text = graph_text("%y: fp32[rows, cols*2], %n: i32[rows*2+1] = mine %x {size = 3}");
  const auto graph = graph::parse(text, "g.txt", ops);
  EXPECT_EQ(graph::print(graph), text);
  EXPECT_EQ(graph::parse(graph::print(graph), "printed", ops), graph);
  EXPECT_EQ(graph::line_of(text, "g.txt", "y"), "g.txt:6");
  // Passes neither look into it nor lose it.
  EXPECT_THAT(graph::print(graph::run_passes(graph)), HasSubstr("= mine %x {size = 3}"));
}

TEST(OwnOps, TablesAreValues) {
  const auto one = table_of(row_of("x:float[N,C]", "out:=x"));
  const auto other = table_of(row_of("x:float[N,C]", "out:=x[N,2]"));
  const auto as_wide = graph_text("%y: fp32[rows, cols*6] = mine %x");
  EXPECT_NO_THROW(graph::parse(as_wide, "g", one));
  EXPECT_THAT(error_of([&] { graph::parse(as_wide, "g", other); }),
              HasSubstr("the operands make it fp32[rows, 2]"));
  EXPECT_THAT(error_of([&] { graph::parse(as_wide, "g"); }),
              StartsWith("g:6: there is no op \"mine\""));
}

TEST(OwnOps, RowsThatMakeNoSense) {
  const struct {
    kernel::OwnRow row;
    const char* message;
  } cases[] = {
      {row_of("x:flaot[N]", "out:=x"), "op.py:2: operands: \"flaot[N]\": expected an element type"},
      {row_of("X:float[N]", "out:=x"), "op.py:2: operands: \"X:float[N]\": expected a name"},
      {row_of("x:float[N", "out:=x"),
       "op.py:2: operands: \"float[N\": the dimensions are not closed"},
      {row_of("x:float[N] x:float[N]", "out:=x"), "op.py:2: operands: x is there twice"},
      {row_of("x...", "out:fp32[1]"), "op.py:2: operands: x: expected one operand a role"},
      {row_of("", "out:fp32[1]"), "op.py:2: operands: expected at least one"},
      {row_of("x:float[N]", "out"), "op.py:3: results: result out: expected an element type"},
      {row_of("x:float[N]", "out:=z"), "op.py:3: results: out: there is no operand z"},
      {row_of("x:float[N]", "out:=x[M]"),
       "op.py:3: results: result out: no operand has the dimension M"},
      {row_of("x:float[N]", "out:=x[N*size]"),
       "expected a letter or an attribute of type int, got size"},
      {row_of("x:float[N]", "out:=x[N*]"), "op.py:3: results: dimension"},
      {row_of("x:float[N]", "out?:=x"),
       "op.py:3: results: out: expected a result that is always there"},
      {row_of("x:float[N]", "out:=x", "", "out=y"),
       "op.py:4: in_place: \"out=y\": expected RESULT=OPERAND"},
      {row_of("x:float[N]", "out:=x", "low:float=one"),
       "op.py:5: attributes: \"low:float=one\": expected a number"},
      {row_of("x:float[N]", "out:=x", "low"), "op.py:5: attributes: \"low\": expected NAME:TYPE"},
      {row_of("x:float[N]", "out:=x", "", "", "linear"), "op.py:1: op linear: this program has"},
      {row_of("x:float[N]", "out:=x", "", "", "My op"), "op.py:1: op: \"My op\": expected a name"},
  };
  for (const auto& [row, message] : cases)
    EXPECT_THAT(error_of([&] { table_of(row); }), HasSubstr(message));
  auto ops = table_of(row_of("x:float[N]", "out:=x"));
  EXPECT_EQ(error_of([&] { ops.add(row_of("x:float[N]", "out:=x")); }), "no error");
  EXPECT_THAT(error_of([&] { ops.add(row_of("x:any[N]", "out:=x")); }),
              HasSubstr("its row is another than that of op.py:1"));
}

TEST(OwnOps, NodesThatDoNotFit) {
  const auto ops = table_of(
      row_of("x:float[N,C] s:fp32[8]", "out:=x[N,cdiv(C,size)] s:=s", "size:int=1", "s=s"));
  const auto fault = [&](const std::string& node, const std::string& declared) {
    return error_of([&] { graph::parse(graph_text(node, declared), "g.txt", ops); });
  };
  const std::string results = "%y: fp32[rows, 3], %t: fp32[8] = ";
  EXPECT_EQ(fault(results + "mine %x, %s {size = 4}", "fp32[rows, 12]"), "no error");
  EXPECT_EQ(
      fault(results + "mine %x, %s {size = 0}", "fp32[rows, 12]"),
      "g.txt:6: expression \"cdiv(C,size)\": division by zero or a result beyond 64 bits (operands "
      "12, 0)");
  EXPECT_THAT(
      fault(results + "mine %x, %s {size = 4}", "fp32[rows, cols]"),
      StartsWith("g.txt:6: mine: dimension \"cdiv(C,size)\", of C = cols, size = 4, is no number"));
  EXPECT_THAT(fault(results + "mine %x", "fp32[rows, 12]"),
              StartsWith("g.txt:6: mine: operand s is missing"));
  EXPECT_THAT(fault(results + "mine %x, %x {size = 4}", "fp32[8]"),
              StartsWith("g.txt:6: mine: operand x (%x): expected float"));
  auto text = graph_text(results + "mine %x, %s {size = 4}", "fp32[rows, 12]");
  text.replace(text.find("state %s"), 8, "input %s");
  EXPECT_EQ(
      error_of([&] { graph::parse(text, "g.txt", ops); }),
      "g.txt:6: mine: operand s (%s): expected a state, since it is written in place, got fp32[8]");
}

TEST(OwnOps, SizesAreDeclared) {
  const auto fault = [](const std::string& lines) {
    return error_of([&] { graph::parse("graph g {\n" + lines + "\n  return %x\n}\n", "g.txt"); });
  };
  EXPECT_EQ(fault("  size n\n  input %x: fp32[n*3-2, T+1]"), "no error");
  EXPECT_THAT(fault("  input %x: fp32[n]"),
              StartsWith("g.txt:2: there is no size n; expected T, S"));
  EXPECT_THAT(fault("  size T"), StartsWith("g.txt:2: size T: there is one of that name"));
  EXPECT_THAT(fault("  size n\n  size n"), StartsWith("g.txt:3: size n: there is one"));
  EXPECT_THAT(fault("  size a_name_that_is_long"), HasSubstr("at most 15 letters"));
  std::string many;
  for (int i = 0; i < 9; ++i) many += fmt::format("  size n{}\n", i);
  EXPECT_THAT(fault(many), StartsWith("g.txt:10: size n8: a graph declares at most 8 sizes"));
}

// The kernel of "mine", whose parameters are of what `of` says.
kernel::OwnOp op_with(const std::string& out_of, const std::string& x_of,
                      const std::string& size_of) {
  auto made = std::make_shared<kernel::GeneratedKernel>();
  const auto json =
      parse_json(fmt::format(R"({{"name": "mine_1", "source_sha256": "", "op": "mine", "when": "1",
        "params": [{{"name": "out_ptr", "role": "out", "types": ["fp32"], "shape": ["n"], "of": "{}"}},
                   {{"name": "x_ptr", "role": "in", "types": ["fp32"], "shape": ["n"], "of": "{}"}},
                   {{"name": "n", "role": "size", "types": ["i32"], "of": "{}"}}],
        "grid": ["n", "1", "1"], "bytes": "0", "flops": "0", "tuned": [], "default": {{}}}})",
                             out_of, x_of, size_of),
                 "test");
  made->spec = kernel::parse_spec(json, "mine_1", "op.py:9");
  return {row_of("x:fp32[N]", "out:=x", "low:int=0"), made, "op.py:9", {{"x_ptr", "op.py:12"}}};
}

TEST(OwnOps, KernelsAreHeldAgainstTheRow) {
  const auto fault = [](const kernel::OwnOp& op) {
    const auto ops = table_of(op.row);
    return error_of([&] { program::check_own_op(op, ops.find("mine")->row()); });
  };
  EXPECT_EQ(fault(op_with("out", "x", "x[0]")), "no error");
  EXPECT_EQ(fault(op_with("out", "x", "@low")), "no error");
  EXPECT_EQ(
      fault(op_with("x", "x", "x[0]")),
      "op.py:3: result out: no parameter of the kernel writes it; expected out(\"out_ptr\", ...)");
  EXPECT_THAT(
      fault(op_with("out", "z", "x[0]")),
      StartsWith("op.py:12: parameter x_ptr: expected an operand or a result, got z; the row has"));
  EXPECT_THAT(fault(op_with("out", "x", "@high")),
              StartsWith("op.py:9: parameter n: expected an attribute, got high"));
}

TEST(OwnOps, SizesComeFromTheInputs) {
  const auto text = R"(graph g {
  size rows
  size half
  input %x: fp32[rows+1, half*2]
  input %y: fp32[rows, 4]
  %z: fp32[rows+1, half*2] = scale %x {alpha = 2.0}
  return %z, %y
}
)";
  const program::GraphPlanner planner(text, "g.txt", {.mode = "eager"}, "cpu");
  std::random_device device;
  const auto seed = device();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  const std::int64_t rows = random() % 1000, half = 1 + random() % 100;
  model::TensorMap inputs{{"x", {DType::fp32, {rows + 1, half * 2}, {}}},
                          {"y", {DType::fp32, {rows, 4}, {}}}};
  const auto bound = planner.bind(inputs);
  EXPECT_EQ(bound.sizes.own[0], rows);
  EXPECT_EQ(bound.sizes.own[1], half);
  const auto plan = planner.plan(bound);
  // A width is a number of the plan, a number of rows stays one of the launch.
  EXPECT_EQ(graph::dims_text(plan.graph.value(plan.graph.outputs[0]).shape),
            fmt::format("[rows+1, {}]", half * 2));

  const auto fault = [&](const std::function<void(model::TensorMap&)>& change) {
    auto changed = inputs;
    change(changed);
    return error_of([&] { planner.bind(changed); });
  };
  EXPECT_EQ(fault([](auto& all) { all.erase("y"); }),
            "g.txt:5: input %y is missing: the inputs have no tensor of that name; they have x");
  EXPECT_EQ(
      fault([&](auto& all) { all["y"].shape[0] = rows + 1; }),
      fmt::format("g.txt:5: input %y: expected fp32[rows, 4] with rows = {} (%x), got fp32[{}, 4]",
                  rows, rows + 1));
  EXPECT_EQ(fault([](auto& all) { all["y"].dtype = DType::i32; }),
            fmt::format("g.txt:5: input %y: expected fp32[rows, 4], got i32[{}, 4]", rows));
  EXPECT_EQ(fault([](auto& all) { all["x"].shape[1] += 1; }),
            fmt::format("g.txt:4: input %x: expected fp32[rows+1, half*2], got fp32[{}, {}]",
                        rows + 1, half * 2 + 1));
  EXPECT_EQ(fault([](auto& all) { all["w"] = {}; }),
            "g.txt: the inputs have a tensor w, which graph g does not declare; it declares x, y");
}

TEST(OwnOps, GraphsThatCannotRun) {
  const auto fault = [](const std::string& lines) {
    return error_of([&] {
      program::GraphPlanner("graph g {\n" + lines + "}\n", "g.txt", {.mode = "eager"}, "cpu");
    });
  };
  EXPECT_EQ(fault("  input %x: fp32[T, 4]\n  input %b: fp32[4]\n  return %x\n"),
            "g.txt:3: input %b is read by nothing; remove its line, or read it");
  EXPECT_EQ(fault("  input %x: fp32[T, 4]\n"),
            "g.txt: graph g returns nothing; expected a line such as \"return %y\"");
  EXPECT_EQ(fault("  input %x: fp32[T, 4]\n  return %x, %x\n"),
            "g.txt: graph g returns a value twice; expected each once");
}

}  // namespace
}  // namespace nereid
