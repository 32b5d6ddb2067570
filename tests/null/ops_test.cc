// Operands by role and attributes by name, through the API and as text: what is unknown, missing,
// given twice or of another type is an Error that says what was expected, in a text with its line.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"
#include "graph/ir.h"

namespace nereid::graph {
namespace {

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

std::string error_of_node(Op op, const Attrs& attrs) {
  return error_of([&] { static_cast<void>(Node(op, {}, {}, attrs)); });
}

constexpr Op kOps[] = {
#define GRAPH_OP(name, ...) Op::name,
#include "graph/ops.def"
#undef GRAPH_OP
};

constexpr const char* kDeclarations = R"(graph g {
  input %x: fp32[T, 64]
  input %r: fp32[T, 32]
  weight %w: fp16[32, 64]
  weight %b: fp16[32]
  weight %g: fp16[64]
  weight %s: fp32[32]
  input %q: fp16[T, 4, 8]
  input %i: i32[T]
  input %starts: i32[S+1]
  input %lens: i32[S]
  state %k: fp16[9, 2, 16, 8]
  weight %f: fp32[4]
)";
constexpr int kFirstNodeLine = 14;

std::string text_of(const std::string& node, const std::string& result = "%y") {
  return kDeclarations + ("  " + node) + "\n  return " + result + "\n}\n";
}

// Of a graph whose one node this is; without the file and line, which every message must have.
std::string error_of_text(const std::string& node) {
  const auto said = error_of([&] { verify(parse(text_of(node), "g")); });
  const auto where = fmt::format("g:{}: ", kFirstNodeLine);
  EXPECT_THAT(said, StartsWith(where));
  return said.substr(std::min(where.size(), said.size()));
}

TEST(Attributes, WhatIsNotGivenIsTheDefaultOfTheTable) {
  const Node linear(Op::linear, {});
  EXPECT_EQ(linear.float_attr("eps"), 1e-5);
  EXPECT_EQ(linear.text_attr("epilogue"), "");
  EXPECT_EQ(linear.dtype_attr("dtype"), std::nullopt);
  EXPECT_EQ(linear.attr("alpha"), Attr(1.0));
  EXPECT_EQ(Node(Op::slice, {}).int_attr("begin"), 0);
}

TEST(Attributes, NodesThatMeanTheSameAreEqual) {
  const Attrs given{{"alpha", std::int64_t{2}}, {"eps", 1e-5}, {"dtype", DType::fp16}};
  const Attrs other{{"dtype", DType::fp16}, {"epilogue", ""}, {"alpha", 2.0}};
  EXPECT_EQ(Node(Op::linear, {}, {}, given), Node(Op::linear, {}, {}, other));
  Node node(Op::linear, {}, {}, given);
  EXPECT_THAT(node.attrs, testing::ElementsAre(testing::Pair("dtype", Attr(DType::fp16)),
                                               testing::Pair("alpha", Attr(2.0))));
  node.set_attr("alpha", 1.0);
  node.unset_attr("dtype");
  EXPECT_TRUE(node.attrs.empty());
}

TEST(Attributes, OneThatTheOpHasNotIsAnError) {
  const std::string said =
      "linear: there is no attribute epsilon; expected dtype, eps, alpha, epilogue";
  EXPECT_EQ(error_of_node(Op::linear, {{"epsilon", 1.0}}), said);
  EXPECT_EQ(error_of_text("%y: fp32[T, 32] = linear %x, %w {epsilon = 1.0}"), said);
  EXPECT_EQ(error_of_node(Op::rope, {{"theta", 1.0}}),
            "rope: there is no attribute theta; expected none");
}

TEST(Attributes, ValuesHaveTheTypeOfTheTable) {
  EXPECT_EQ(error_of_node(Op::linear, {{"eps", "small"}}),
            "linear: attribute eps: expected a finite number, got \"small\"");
  EXPECT_EQ(error_of_node(Op::add, {{"alpha", std::numeric_limits<double>::quiet_NaN()}}),
            "add: attribute alpha: expected a finite number, got nan");
  EXPECT_EQ(error_of_node(Op::reshape, {{"heads", 8.0}}),
            "reshape: attribute heads: expected an integer, got 8.0");
  EXPECT_EQ(error_of_node(Op::linear, {{"dtype", std::int64_t{16}}}),
            "linear: attribute dtype: expected an element type, got 16");
  EXPECT_EQ(error_of_node(Op::attention, {{"rows", "some"}}),
            "attention: attribute rows: expected all, decode or prompt, got \"some\"");
  EXPECT_EQ(error_of_text("%y: fp32[T, 32] = linear %x, %w {alpha = inf}"),
            "linear: attribute alpha: expected a finite number, got inf");
  EXPECT_EQ(error_of_text("%y: fp32[T, 32] = linear %x, %w {alpha = 2, alpha = 3}"),
            "linear: attribute alpha is given twice");
  EXPECT_THAT(error_of_text("%y: fp32[T, 64] = cluster %x"),
              HasSubstr("cluster: attribute body is missing"));
}

TEST(Attributes, EveryOneIsHeldToItsType) {
  const Attr values[] = {std::int64_t{1}, 0.5, DType::fp16, "some text"};
  for (const auto op : kOps)
    for (const auto& attr : op_row(op).attrs) {
      const auto name = std::string(attr.name);
      std::size_t n_right = 0;
      for (const auto& value : values) {
        const auto said = error_of_node(op, {{name, value}});
        n_right += said == "no error" ? 1 : 0;
        EXPECT_THAT(said,
                    testing::AnyOf("no error", StartsWith(fmt::format("{}: attribute {}: expected ",
                                                                      op_row(op).name, name))));
      }
      // A number may be whole, and none of these is one of a list of words.
      EXPECT_EQ(n_right, attr.type == AttrType::real   ? 2
                         : attr.type == AttrType::word ? 0
                                                       : 1)
          << op_row(op).name << " " << name;
      EXPECT_THAT(error_of_node(op, {{name.substr(1), values[0]}}), HasSubstr("; expected "));
      if (!attr.default_value) continue;
      EXPECT_EQ(Node(op, {}).attr(name), *attr.default_value);
    }
}

TEST(Roles, RowsReferToWhatTheyHave) {
  for (const auto op : kOps) {
    const auto& row = op_row(op);
    std::vector<Role> roles = row.operands;
    roles.insert(roles.end(), row.results.begin(), row.results.end());
    for (const auto& role : roles) {
      EXPECT_TRUE(role.type.like.empty() || row.find_operand(role.type.like)) << role.type.text;
      for (const auto& dim : role.type.dims.value_or(std::vector<DimPattern>{})) {
        if (dim.name.size() <= 1 || dim.name == "...") continue;
        const auto* attr = row.find_attr(dim.name);
        EXPECT_TRUE(attr != nullptr && attr->type == AttrType::integer) << role.type.text;
      }
    }
  }
}

TEST(Types, MessagesSayWhatWouldFit) {
  const auto error = [](const std::string& node) {
    return error_of_text("%y: fp16[T, 4, 8] = " + node);
  };
  EXPECT_EQ(error("rope %q, %lens, %f"),
            "rope: operand positions (%lens): expected i32[T], got i32[S]");
  EXPECT_EQ(error("rope %q, %i, %s"),
            "rope: operand inv_freq (%s): expected fp32[4], got fp32[32]");
  EXPECT_EQ(error("rope %x, %i, %f"),
            "rope: operand x (%x): expected float[T, H, D], got fp32[T, 64]");
  EXPECT_EQ(error("rms_norm %q, %f {eps = 1}"),
            "rms_norm: operand weight (%f): expected float[8], got fp32[4]");
  EXPECT_EQ(error("add %x, %r"), "add: operand y (%r): expected fp32[T, 64], got fp32[T, 32]");
  EXPECT_EQ(error("attention %q, %k, %k, %i, %starts, %lens"),
            "attention: operand block_tables (%i): expected i32[S, M], got i32[T]");
  EXPECT_EQ(error("kv_write %q, %q, %i, %k, %k"),
            "kv_write: operand k_cache (%k): expected any[9, 4, 16, 8], got fp16[9, 2, 16, 8]");
}

// What a cache's numbers are divided by: of caches of 8 bits alone, and never 0.
TEST(Types, OnlyCachesOf8BitsHaveScales) {
  const auto error = [](const std::string& keys, const std::string& values,
                        const std::string& attrs) {
    const auto text = fmt::format(
        "graph g {{\n  input %q: fp16[T, 2, 8]\n  input %i: i32[T]\n  state %k: {0}[9, 2, 16, 8]\n"
        "  state %v: {1}[9, 2, 16, 8]\n  %k1: {0}[9, 2, 16, 8], %v1: {1}[9, 2, 16, 8] = kv_write "
        "%q, "
        "%q, %i, %k, %v {{{2}}}\n  return %k1, %v1\n}}\n",
        keys, values, attrs);
    return error_of([&] { verify(parse(text, "g")); });
  };
  EXPECT_EQ(error("fp8e4nv", "fp8e4nv", "k_scale = 0.5, v_scale = 3"), "no error");
  EXPECT_EQ(error("fp8e4nv", "fp16", "k_scale = 0.5"), "no error");
  EXPECT_THAT(error("fp16", "fp8e4nv", "k_scale = 0.5"),
              HasSubstr("operand k_cache (%k): expected fp8e4nv beside k_scale, got fp16"));
  EXPECT_THAT(error("fp8e4nv", "fp8e4nv", "v_scale = 0"),
              HasSubstr("attribute v_scale: expected a number above 0, got 0"));
}

TEST(Roles, OperandsComeByNameInAnyOrder) {
  const Graph graph = parse(
      text_of("%y: fp32[T, 32] = linear %x, residual = %r, %w, bias = %b, norm = %g {alpha = 2}"),
      "g");
  const auto& node = graph.nodes[0];
  EXPECT_EQ(node.operand("x"), graph.find("x"));
  EXPECT_EQ(node.operand("weight"), graph.find("w"));
  EXPECT_EQ(node.operand("norm"), graph.find("g"));
  EXPECT_EQ(node.operand("scale"), kNoValue);
  EXPECT_EQ(node.result("y"), graph.find("y"));
  EXPECT_EQ(node.inputs.size(), op_row(Op::linear).operands.size());
  const auto text = print(graph);
  EXPECT_THAT(text,
              HasSubstr("= linear %x, %w, norm = %g, bias = %b, residual = %r {alpha = 2.0}"));
  EXPECT_EQ(parse(text, "again"), graph);
}

TEST(Roles, WhatIsMissingOrTooMuchIsAnError) {
  const std::string all =
      "expected the operands x, weight, norm?, bias?, scale?, zero?, residual?, x_low?, x_scale?";
  EXPECT_EQ(error_of_text("%y: fp32[T, 32] = linear %x, bias = %b"),
            "linear: operand weight is missing; " + all);
  EXPECT_EQ(error_of_text("%y: fp32[T, 32] = linear %x, %w, %b"),
            "linear: one operand without a name too many; " + all);
  EXPECT_EQ(error_of_text("%y: fp32[T, 32] = linear %x, %w, biass = %b"),
            "linear: there is no operand biass; " + all);
  EXPECT_EQ(error_of_text("%y: fp32[T, 32] = linear %x, %w, bias = %b, bias = %b"),
            "linear: operand bias is given twice");
  EXPECT_EQ(error_of([] {
              static_cast<void>(Node(Op::add, {0, 1, 2}));
            }),
            "add: expected the operands x, y, got 3");
  EXPECT_EQ(error_of_text("%y: fp16[64, 64] = pack part = %w"),
            "pack: there is no operand part; expected the operands parts...");
}

TEST(Linear, ShapesOfWhatIsFused) {
  const auto error = [](const std::string& rest, const std::string& shape = "T, 32") {
    return error_of_text("%y: fp32[" + shape + "] = linear %x, %w, " + rest);
  };
  EXPECT_EQ(error("norm = %b"), "linear: operand norm (%b): expected float[64], got fp16[32]");
  EXPECT_EQ(error("bias = %g"), "linear: operand bias (%g): expected any[32], got fp16[64]");
  EXPECT_EQ(error("scale = %b"), "linear: operand scale (%b): expected float[32, G], got fp16[32]");
  EXPECT_EQ(error("residual = %x"),
            "linear: operand residual (%x): expected fp32[T, 32], got fp32[T, 64]");
  EXPECT_EQ(error("residual = %r {epilogue = \"(a, b) -> a * b\"}", "T, 16"),
            "linear: operand residual (%r): expected fp32[T, 16], got fp32[T, 32]");
}

TEST(Linear, AnEpilogueIsAnExpressionOfOneValueOrTwoHalves) {
  const auto error = [](const std::string& text, const std::string& n_cols = "32") {
    return error_of_text("%y: fp32[T, " + n_cols + "] = linear %x, %w {epilogue = \"" + text +
                         "\"}");
  };
  verify(parse(text_of("%y: fp32[T, 32] = linear %x, %w {epilogue = \"(x) -> relu(x)\"}"), "g"));
  EXPECT_THAT(error("(a, b) -> silu(a) * b"), HasSubstr("the operands make it fp32[T, 16]"));
  EXPECT_EQ(error("swiglu"),
            "linear, epilogue: expression \"swiglu\", column 1: expected \"(\", got \"swiglu\"");
  EXPECT_EQ(error("(a, b, c) -> a + b * c"),
            "linear, epilogue: expected one result of one value or of two halves, got 1 of 3");
  EXPECT_EQ(error("(x) -> x + 1.0, x"),
            "linear, epilogue: expected one result of one value or of two halves, got 2 of 1");
  EXPECT_EQ(error("(x) -> x - max(x)"),
            "linear, epilogue: expected what a value gives by itself, got a reduction of rows");
}

TEST(Linear, AQuantisedWeightHasScales) {
  const auto error = [](const std::string& weight, const std::string& scale,
                        const std::string& rest = "") {
    return error_of([&] {
      verify(parse("graph g {\n  input %x: fp16[T, 192]\n  weight %w: " + weight +
                       "\n  weight %s: " + scale + "\n  weight %z: u8[8, 3]\n" +
                       "  %y: fp16[T, 8] = linear %x, %w, scale = %s" + rest + "\n  return %y\n}\n",
                   "g"));
    });
  };
  for (const char* weight : {"i8[8, 192]", "fp8e4nv[8, 192]", "fp8e5[8, 192]", "u8[8, 128]"})
    for (const char* scale : {"fp32[8, 1]", "fp16[8, 3]", "bf16[8, 6]"})
      EXPECT_EQ(error(weight, scale), "no error") << weight << scale;
  EXPECT_EQ(error("u8[8, 128]", "fp16[8, 3]", ", zero = %z"), "no error");
  EXPECT_THAT(error("i8[8, 192]", "fp16[8, 3]", ", zero = %z"), HasSubstr("none, but for u8"));
  EXPECT_THAT(error("u8[8, 128]", "fp16[8, 6]", ", zero = %z"), HasSubstr("expected u8[8, 6]"));
  EXPECT_THAT(error("u8[8, 96]", "fp16[8, 3]"), HasSubstr("expected 128 columns, of 4 bits"));
  EXPECT_THAT(error("i8[8, 128]", "fp32[8, 1]"), HasSubstr("expected 192 columns"));
  EXPECT_THAT(error("fp16[8, 192]", "fp32[8, 1]"), HasSubstr("beside a scale"));
  EXPECT_THAT(error("i8[8, 192]", "fp32[8, 5]"), HasSubstr("groups that divides 192 columns"));
  EXPECT_THAT(error("i8[8, 192]", "fp32[9, 1]"), HasSubstr("expected float[8, 1]"));
  EXPECT_THAT(error_of_text("%y: fp32[T, 32] = linear %x, %w, scale = %s"),
              HasSubstr("expected float[32, G], got fp32[32]"));
}

TEST(Linear, RowsOfIntegersHaveScalesToo) {
  const auto error = [](const std::string& weight, const std::string& groups,
                        const std::string& x_scale, const std::string& rest = "x_low = %l",
                        const std::string& x = "i8[T, 256]") {
    return error_of([&] {
      verify(parse("graph g {\n  input %x: " + x + "\n  input %l: i8[T, 256]\n  input %r: " +
                       x_scale + "\n  weight %w: " + weight + "\n  weight %s: fp32[8, " + groups +
                       "]\n  weight %n: fp32[256]\n  %y: fp32[T, 8] = linear %x, %w, scale = %s, " +
                       "x_scale = %r, " + rest + " {dtype = fp32}\n  return %y\n}\n",
                   "g"));
    });
  };
  for (const char* weight : {"i8[8, 256]", "u8[8, 128]"})
    for (const char* x_scale : {"fp32[T, 2]", "fp32[T, 8]"})
      EXPECT_EQ(error(weight, "2", x_scale), "no error") << weight << x_scale;
  EXPECT_THAT(error("i8[8, 256]", "2", "fp32[T, 1]"), HasSubstr("a multiple of 2 columns"));
  EXPECT_THAT(error("i8[8, 256]", "1", "fp32[T, 3]"), HasSubstr("that divides 256 columns"));
  EXPECT_THAT(error("fp8e5[8, 256]", "1", "fp32[T, 2]"),
              HasSubstr("i8 or u8 beside x_scale of integers"));
  EXPECT_THAT(error("i8[8, 256]", "1", "fp32[T, 2]", "x_low = %l, norm = %n"),
              HasSubstr("none beside x_scale"));
  EXPECT_THAT(error("i8[8, 256]", "1", "fp32[T, 2]", "norm = %n"),
              HasSubstr("x_low is missing, which is beside x_scale of integers"));
  EXPECT_THAT(error("i8[8, 256]", "1", "fp32[T, 2]", "x_low = %l", "fp32[T, 256]"),
              HasSubstr("expected i8 or fp8e4nv beside x_scale"));
  EXPECT_THAT(error_of([&] {
                verify(
                    parse("graph g {\n  input %x: i8[T, 256]\n  weight %w: fp16[8, 256]\n"
                          "  %y: fp32[T, 8] = linear %x, %w {dtype = fp32}\n  return %y\n}\n",
                          "g"));
              }),
              HasSubstr("a floating-point type, or x_scale beside it"));
}

TEST(Linear, RowsOfFloatsOf8BitsHaveAScaleEach) {
  const auto error = [](const std::string& weight, const std::string& groups,
                        const std::string& x_scale, const std::string& rest = "",
                        const std::string& x = "fp8e4nv[T, 256]") {
    return error_of([&] {
      verify(parse("graph g {\n  input %x: " + x + "\n  input %l: i8[T, 256]\n  input %r: " +
                       x_scale + "\n  weight %w: " + weight + "\n  weight %s: fp32[8, " + groups +
                       "]\n  weight %n: fp32[256]\n  %y: fp32[T, 8] = linear %x, %w, scale = %s, " +
                       "x_scale = %r" + rest + " {dtype = fp32}\n  return %y\n}\n",
                   "g"));
    });
  };
  const std::string weight = "fp8e4nv[8, 256]";
  EXPECT_EQ(error(weight, "1", "fp32[T, 1]"), "no error");
  EXPECT_THAT(error("i8[8, 256]", "1", "fp32[T, 1]"), HasSubstr("fp8e4nv beside x of that type"));
  EXPECT_THAT(error("fp8e5[8, 256]", "1", "fp32[T, 1]"),
              HasSubstr("fp8e4nv beside x of that type"));
  EXPECT_THAT(error(weight, "2", "fp32[T, 1]"),
              HasSubstr("operand scale (%s): expected one column"));
  EXPECT_THAT(error(weight, "1", "fp32[T, 2]"),
              HasSubstr("operand x_scale (%r): expected one column"));
  EXPECT_THAT(error(weight, "1", "fp32[T, 1]", ", x_low = %l"),
              HasSubstr("none beside x of fp8e4nv"));
  EXPECT_THAT(error(weight, "1", "fp32[T, 1]", ", norm = %n"), HasSubstr("none beside x_scale"));
  EXPECT_THAT(error(weight, "1", "fp32[T, 1]", "", "fp8e5[T, 256]"),
              HasSubstr("i8 or fp8e4nv beside x_scale"));
}

TEST(QuantiseRows, HaveAScaleAGroup) {
  const auto text = [](const std::string& n_groups) {
    return "graph g {\n  input %x: fp32[T, 96]\n  %h: i8[T, 96], %l: i8[T, 96], %s: fp32[T, " +
           n_groups + "] = quantise_rows %x {groups = " + n_groups + "}\n  return %h, %l, %s\n}\n";
  };
  verify(parse(text("3"), "g"));
  EXPECT_THAT(error_of([&] { verify(parse(text("5"), "g")); }),
              HasSubstr("a number of groups that divides 96 columns"));
}

}  // namespace
}  // namespace nereid::graph
