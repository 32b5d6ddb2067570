// Texts that name functions of attention: what is read of them, one text for all that mean the
// same, and what is said of those that mean nothing.
#include "kernel/functions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace nereid::kernel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(FunctionKind kind, std::string_view text) {
  try {
    static_cast<void>(parse_functions(kind, text));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Functions, ATextIsItsCallsAndWhatStandsBetween) {
  const auto mask =
      parse_functions(FunctionKind::mask, "causal&( window( 1024 ) |my/own.py:odd(3,b))");
  ASSERT_EQ(mask.calls.size(), 3U);
  EXPECT_EQ(mask.calls[1].name, "window");
  EXPECT_THAT(mask.calls[1].args, ElementsAre("1024"));
  EXPECT_EQ(mask.calls[2].file, "my/own.py");
  EXPECT_EQ(mask.calls[2].name, "odd");
  EXPECT_THAT(mask.calls[2].args, ElementsAre("3", "b"));
  EXPECT_EQ(mask.text(), "causal & (window(1024) | my/own.py:odd(3, b))");
}

TEST(Functions, TheTextOfATextIsItself) {
  for (const char* text : {"causal", "causal & window(7) & prefix(a)", "((causal | prefix(b)))",
                           "documents(a) & (causal | prefix(b)) | window(2)"})
    EXPECT_EQ(parse_functions(FunctionKind::mask, text).text(), text);
  for (const char* text : {"softcap(30)", "alibi(a) then softcap(1e2) then x.py:f(-1.5, b)"})
    EXPECT_EQ(parse_functions(FunctionKind::score, text).text(), text);
}

TEST(Functions, AnUnknownBuiltinIsNamedWithThoseThereAre) {
  EXPECT_EQ(error_of(FunctionKind::mask, "causal & windw(3)"),
            "mask function \"causal & windw(3)\": there is no windw; there are causal, documents, "
            "prefix, window, or FILE:NAME of your own");
  EXPECT_THAT(error_of(FunctionKind::score, "window(3)"),
              HasSubstr("there is no window; there are alibi, relative_bias, softcap"));
}

TEST(Functions, WrongArgumentsAreNamed) {
  EXPECT_EQ(
      error_of(FunctionKind::score, "softcap"),
      "score function \"softcap\": softcap takes (positive), got (); a tensor is named a or b");
  for (const char* text : {"window(0)", "window(-3)", "window(2.5)", "window(a)", "window(1, 2)",
                           "causal(1)", "prefix(7)", "prefix"})
    EXPECT_THAT(error_of(FunctionKind::mask, text), HasSubstr(" takes (")) << text;
  EXPECT_THAT(error_of(FunctionKind::score, "softcap(0)"), HasSubstr("takes (positive)"));
  EXPECT_THAT(error_of(FunctionKind::score, "alibi(3)"), HasSubstr("takes (fp32[H])"));
}

TEST(Functions, WhatHasNoFormIsRefused) {
  for (const char* text : {"",
                           " ",
                           "&",
                           "causal &",
                           "causal causal",
                           "(causal",
                           "causal)",
                           "window(",
                           "window(3",
                           "window(3,)",
                           "window()",
                           "causal then causal",
                           "causal && causal",
                           "window(x)",
                           ":f",
                           "f.py:",
                           "causal; causal",
                           "caus\tal",
                           "window(nan)",
                           "window(1e999)",
                           "\xc3\xa4"})
    EXPECT_THAT(error_of(FunctionKind::mask, text), HasSubstr("mask function \"")) << text;
  for (const char* text : {"then", "softcap(3) then", "softcap(3) & softcap(4)", "(softcap(3))"})
    EXPECT_THAT(error_of(FunctionKind::score, text), HasSubstr("score function \"")) << text;
  EXPECT_THAT(error_of(FunctionKind::mask, std::string(100000, '(')), HasSubstr("deep"));
}

}  // namespace
}  // namespace nereid::kernel
