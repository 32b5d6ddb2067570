// What a graph may say of attention's functions: tensors that are bound and their types, and what
// stands beside them; and that fusions leave such attention alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/error.h"
#include "graph/ir.h"
#include "graph/passes/passes.h"

namespace nereid::graph {
namespace {

using testing::HasSubstr;

// Of one node; in its attributes ' stands for a quote.
std::string text_of(const std::string& operands, std::string attributes) {
  std::ranges::replace(attributes, '\'', '"');
  return R"(graph g {
  input %q: fp16[T, 4, 8]
  input %starts: i32[S+1]
  input %lens: i32[S]
  input %tables: i32[S, 3]
  state %k: fp16[9, 2, 16, 8]
  weight %slopes: fp32[4]
  weight %table: fp32[4, 33]
  weight %short: fp32[3]
  weight %half: fp16[4]
  input %ends: i32[T, 2]
  input %wide: i32[T, 3]
  %y: fp16[T, 4, 8] = attention %q, %k, %k, %tables, %starts, %lens)" +
         operands + attributes + "\n  return %y\n}\n";
}

std::string error_of(const std::string& operands, const std::string& attributes) {
  try {
    verify(parse(text_of(operands, attributes), "g"));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(AttentionFunctions, WhatFitsIsTaken) {
  const auto fits = [](const std::string& operands, const std::string& attributes) {
    EXPECT_EQ(error_of(operands, attributes), "no error") << attributes;
    const auto graph = parse(text_of(operands, attributes), "g");
    EXPECT_EQ(print(parse(print(graph), "g")), print(graph));
  };
  fits("", " {mask = 'causal & window(9)'}");
  fits("", " {softcap = 3.0, mask = 'causal'}");
  fits("", " {window = 3, score = 'softcap(2)'}");
  fits(", fn_a = %slopes", " {score = 'alibi(a)'}");
  fits(", fn_b = %table", " {score = 'softcap(2) then relative_bias(b)'}");
  fits(", fn_a = %lens, fn_b = %ends", " {mask = 'causal & documents(b) | prefix(a)'}");
  fits(", fn_a = %wide", " {mask = 'own.py:of_three(a)'}");
  fits(", sinks = %slopes", " {window = 3}");
  fits(", sinks = %slopes", "");
}

TEST(AttentionFunctions, WhatDoesNotFitIsNamed) {
  EXPECT_THAT(error_of("", " {score = 'alibi(a)'}"),
              HasSubstr("operand fn_a is missing, which score = \"alibi(a)\" reads"));
  EXPECT_THAT(error_of(", fn_a = %short", " {score = 'alibi(a)'}"),
              HasSubstr("operand fn_a (%short): expected fp32[4], got fp32[3]"));
  EXPECT_THAT(error_of(", fn_a = %half", " {score = 'alibi(a)'}"),
              HasSubstr("expected fp32[4], got fp16[4]"));
  EXPECT_THAT(error_of(", fn_a = %slopes", " {score = 'relative_bias(a)'}"),
              HasSubstr("expected fp32[4, W], got fp32[4]"));
  EXPECT_THAT(error_of(", fn_b = %wide", " {mask = 'documents(b)'}"),
              HasSubstr("expected i32[T, 2], got i32[T, 3]"));
  EXPECT_THAT(error_of(", fn_a = %ends", " {mask = 'prefix(a)'}"),
              HasSubstr("expected i32[S], got i32[T, 2]"));
  EXPECT_THAT(error_of(", fn_a = %half", " {mask = 'own.py:f(a)'}"),
              HasSubstr("expected fp32 or i32, got fp16[4]"));
  EXPECT_THAT(error_of(", fn_a = %slopes", " {mask = 'causal'}"),
              HasSubstr("expected none, since no function reads it"));
  EXPECT_THAT(error_of(", sinks = %short", ""), HasSubstr("expected fp32[4], got fp32[3]"));
  EXPECT_THAT(error_of("", " {mask = 'casual'}"),
              HasSubstr("there is no casual; there are causal"));
}

TEST(AttentionFunctions, OneThingIsSaidOnce) {
  EXPECT_THAT(error_of("", " {window = 3, mask = 'causal'}"),
              HasSubstr("attribute window: expected none beside mask; write window(3) in mask"));
  EXPECT_THAT(
      error_of("", " {softcap = 2.5, score = 'softcap(2)'}"),
      HasSubstr("attribute softcap: expected none beside score; write softcap(2.5) in score"));
}

TEST(AttentionFunctions, RopeIsNotFusedIntoThem) {
  const auto fused = [](std::string more) {
    std::ranges::replace(more, '\'', '"');
    const auto graph = parse(R"(graph g {
  input %x: fp16[T, 64]
  input %positions: i32[T]
  input %f: fp32[4]
  input %slots: i32[T]
  input %starts: i32[S+1]
  input %lens: i32[S]
  input %tables: i32[S, 3]
  state %k: fp16[9, 2, 16, 8]
  state %v: fp16[9, 2, 16, 8]
  weight %sinks: fp32[4]
  %q: fp16[T, 4, 8], %k2: fp16[9, 2, 16, 8], %v2: fp16[9, 2, 16, 8] = rope_kv_write %x, %positions, %f, %slots, %k, %v {heads = 4}
  %y: fp16[T, 4, 8] = attention %q, %k2, %v2, %tables, %starts, %lens)" +
                                 more + "\n  return %y\n}\n",
                             "g");
    return std::ranges::count(run_passes(graph).nodes, Op::rope_attention, &Node::op);
  };
  EXPECT_EQ(fused(" {window = 3}"), 1);
  EXPECT_EQ(fused(" {mask = 'causal & window(3)'}"), 0);
  EXPECT_EQ(fused(" {score = 'softcap(3)'}"), 0);
  EXPECT_EQ(fused(", sinks = %sinks"), 0);
}

}  // namespace
}  // namespace nereid::graph
