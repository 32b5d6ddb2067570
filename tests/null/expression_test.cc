#include "kernel/expression.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/error.h"

namespace nereid::kernel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Values = std::map<std::string, std::int64_t, std::less<>>;

Expression::Lookup lookup(const Values& values) {
  return [&values](std::string_view name) -> std::optional<std::int64_t> {
    const auto it = values.find(name);
    if (it == values.end()) return std::nullopt;
    return it->second;
  };
}

std::int64_t value(const std::string& text, const Values& values = {}) {
  return Expression::parse(text, "test").evaluate(lookup(values));
}

std::string error_of(const std::string& text, const Values& values = {}) {
  try {
    value(text, values);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Expression, MeansWhatPythonMeans) {
  EXPECT_EQ(value("2 + 3 * 4 - 1"), 13);
  EXPECT_EQ(value("(2 + 3) * 4"), 20);
  EXPECT_EQ(value("10 - 4 - 3"), 3);
  EXPECT_EQ(value("-7 // 2"), -4);
  EXPECT_EQ(value("-7 % 3"), 2);
  EXPECT_EQ(value("7 // -2"), -4);
  EXPECT_EQ(value("7 % -3"), -2);
  EXPECT_EQ(value("-2 * -3"), 6);
  EXPECT_EQ(value("2 - -3"), 5);
  EXPECT_EQ(value("not 0 and 5"), 1);
  EXPECT_EQ(value("0 or 5"), 1);
  EXPECT_EQ(value("not 1 == 2"), 1);
  EXPECT_EQ(value("1 or 0 and 0"), 1);
  EXPECT_EQ(value("1 if 0 else 2 if 0 else 3"), 3);
  EXPECT_EQ(value("1 if 2 > 1 else 2"), 1);
  EXPECT_EQ(value("3 <= 3 and 3 >= 3 and 3 != 4 and not 3 < 3"), 1);
  EXPECT_EQ(value("cdiv(7, 2) + cdiv(8, 2) + cdiv(0, 5)"), 8);
  EXPECT_EQ(value("next_pow2(0) + next_pow2(1) + next_pow2(5) + next_pow2(64)"), 74);
  EXPECT_EQ(value("min(3, max(5, 4))"), 3);
  EXPECT_EQ(value("n * sizeof(x_ptr)", {{"n", 10}, {"sizeof(x_ptr)", 2}}), 20);
  EXPECT_EQ(value("typeof(x) == typeof(w)", {{"typeof(x)", 2}, {"typeof(w)", 2}}), 1);
  EXPECT_EQ(value("9223372036854775807"), INT64_MAX);
}

TEST(Expression, TakesOnlyTheBranchItNeeds) {
  EXPECT_EQ(value("1 // n if n else 7", {{"n", 0}}), 7);
  EXPECT_EQ(value("n and 5 // n", {{"n", 0}}), 0);
  EXPECT_EQ(value("n == 0 or 5 // n", {{"n", 0}}), 1);
  // The name is unknown but the branch that reads it is never taken.
  EXPECT_EQ(value("unknown if 0 else 3"), 3);
}

TEST(Expression, ErrorsSayWhereAndWhat) {
  EXPECT_THAT(error_of("1 +"), HasSubstr("column 4: expected a number"));
  EXPECT_THAT(error_of("1 2"), HasSubstr("unexpected \"2\""));
  EXPECT_THAT(error_of("a $ b"), HasSubstr("unexpected character '$'"));
  EXPECT_THAT(error_of("1 < 2 < 3"), HasSubstr("chained"));
  EXPECT_THAT(error_of("ceil(3)"), HasSubstr("no function \"ceil\""));
  EXPECT_THAT(error_of("cdiv(3)"), HasSubstr("expected \",\""));
  EXPECT_THAT(error_of("n * 2"), HasSubstr("n is not known"));
  EXPECT_THAT(error_of("5 // n", {{"n", 0}}), HasSubstr("division by zero"));
  EXPECT_THAT(error_of("n * n", {{"n", INT64_MAX}}), HasSubstr("beyond 64 bits"));
  EXPECT_THAT(error_of("-n", {{"n", INT64_MIN}}), HasSubstr("beyond 64 bits"));
  EXPECT_THAT(error_of("99999999999999999999"), HasSubstr("not a 64-bit"));
  EXPECT_THAT(error_of(""), HasSubstr("expected a number"));
}

TEST(Expression, SurvivesDepth) {
  for (const char* piece : {"(", "-", "not ", "1 if ", "max(1,", "1 + ", "1 if 1 else "}) {
    std::string text;
    while (text.size() < 4000) text += piece;
    EXPECT_THROW(Expression::parse(text + "1", "test"), Error) << piece;
  }
  EXPECT_THAT(error_of(std::string(1 << 20, '1')), HasSubstr("longer than"));
}

TEST(Expression, FillsInWhatIsKnown) {
  const auto whole = Expression::parse("cdiv(n, BLOCK) * (m if WIDE else 2)", "test");
  EXPECT_THAT(whole.symbols(), ElementsAre("n", "BLOCK", "m", "WIDE"));
  const auto part = whole.substitute(lookup({{"BLOCK", 4}, {"WIDE", 0}}));
  EXPECT_THAT(part.symbols(), ElementsAre("n"));
  EXPECT_EQ(part.constant_value(), std::nullopt);
  const std::array<std::int64_t, 1> values{9};
  EXPECT_EQ(part.evaluate(values), 6);
  EXPECT_EQ(part.substitute(lookup({{"n", 9}})).constant_value(), 6);
  // A division by zero is an error only once it is certain to happen.
  const auto lazy = Expression::parse("5 // Z if n else 1", "test").substitute(lookup({{"Z", 0}}));
  EXPECT_EQ(lazy.evaluate(std::array<std::int64_t, 1>{0}), 1);
  EXPECT_THROW(lazy.evaluate(std::array<std::int64_t, 1>{1}), Error);
}

TEST(Expression, AnyTextParsesOrIsAnError) {
  std::mt19937 random(7);
  const std::array<std::string, 25> pieces{
      "n", "m",  "(",    ")",       "+",       "-",          "*",   "//",    "%",
      "<", "==", "if",   "else",    "and",     "or",         "not", "cdiv(", ",",
      "3", "0",  "min(", "sizeof(", "typeof(", "next_pow2(", " "};
  int n_parsed = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (auto n = 1 + random() % 12; n > 0; --n) text += pieces[random() % pieces.size()] + " ";
    try {
      const auto expression = Expression::parse(text, "test");
      ++n_parsed;
      const auto part = expression.substitute(lookup({{"n", 3}}));
      const Values all{{"n", 3}, {"m", -2}, {"sizeof(n)", 4}, {"sizeof(m)", 2}, {"typeof(n)", 1}};
      EXPECT_EQ(part.evaluate(lookup(all)), expression.evaluate(lookup(all))) << text;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(n_parsed, 100);
}

}  // namespace
}  // namespace nereid::kernel
