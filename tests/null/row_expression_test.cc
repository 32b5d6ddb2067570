// Expressions over rows as text: read, printed and read again, held against values that the test
// computes itself; faults with their column; texts that mean harm.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "graph/expression/formula.h"

namespace nereid::graph::expression {
namespace {

constexpr int kTrees = 400;
const std::vector<std::string> kNames{"x", "gate", "w1"};

std::string error_of(const std::string& text) {
  try {
    expand(parse_body(text, "test"), "test");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string printed(const std::string& text) { return print_body(parse_body(text, "test")); }

// Of a formula without reductions, with the table's own functions.
std::vector<double> values_of(const Formula& formula, const std::vector<double>& operands) {
  std::vector<double> values;
  for (const auto& term : formula.terms) {
    std::array<double, 3> read{};
    for (std::size_t i = 0; i < term.reads().size(); ++i) read[i] = values[term.reads()[i]];
    values.push_back(term.kind == Term::Kind::number ? term.number
                     : term.kind == Term::Kind::operand
                         ? operands[term.operand]
                         : operator_row(term.op).value(read[0], read[1], read[2]));
  }
  std::vector<double> results;
  for (const auto result : formula.results) results.push_back(values[result]);
  return results;
}

// An expression drawn by chance, every operation in parentheses, and what it comes to.
struct Drawn {
  std::string text;
  std::function<double(const std::vector<double>&)> value;
};

class Drawing {
 public:
  explicit Drawing(unsigned seed) : random_(seed) {}

  Drawn number(int depth) {
    if (depth == 0 || below(6) == 0) return leaf();
    const Drawn a = number(depth - 1);
    const auto unary = [&](const char* name, double (*function)(double)) {
      return Drawn{std::string(name) + "(" + a.text + ")",
                   [a, function](const auto& in) { return function(a.value(in)); }};
    };
    switch (below(16)) {
      case 0:
        return unary("exp", [](double x) { return std::exp(x); });
      case 1:
        return unary("tanh", [](double x) { return std::tanh(x); });
      case 2:
        return unary("erf", [](double x) { return std::erf(x); });
      case 3:
        return unary("sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); });
      case 4:
        return unary("silu", [](double x) { return x / (1 + std::exp(-x)); });
      case 5:
        return unary("relu", [](double x) { return x > 0 ? x : 0; });
      case 6:
        return unary("abs", [](double x) { return std::fabs(x); });
      case 7:
        return {"(-" + a.text + ")", [a](const auto& in) { return -a.value(in); }};
      case 8: {
        const Drawn condition = comparison(depth - 1);
        const Drawn b = number(depth - 1);
        return {
            "where(" + condition.text + ", " + a.text + ", " + b.text + ")",
            [=](const auto& in) { return condition.value(in) != 0 ? a.value(in) : b.value(in); }};
      }
      default:
        return infix(a, number(depth - 1));
    }
  }

 private:
  Drawn infix(const Drawn& a, const Drawn& b) {
    using Function = double (*)(double, double);
    const auto both = [&](const std::string& text, Function function) {
      return Drawn{text, [=](const auto& in) { return function(a.value(in), b.value(in)); }};
    };
    const auto sign = [&](const char* text) { return "(" + a.text + text + b.text + ")"; };
    switch (below(6)) {
      case 0:
        return both(sign(" + "), [](double x, double y) { return x + y; });
      case 1:
        return both(sign(" - "), [](double x, double y) { return x - y; });
      case 2:
        return both(sign(" / "), [](double x, double y) { return x / y; });
      case 3:
        return both("max(" + a.text + ", " + b.text + ")",
                    [](double x, double y) { return std::fmax(x, y); });
      default:
        return both(sign(" * "), [](double x, double y) { return x * y; });
    }
  }

  Drawn comparison(int depth) {
    const Drawn a = number(depth), b = number(depth);
    if (below(2) == 0)
      return {"(" + a.text + " < " + b.text + ")",
              [=](const auto& in) { return a.value(in) < b.value(in) ? 1.0 : 0.0; }};
    return {"(" + a.text + " >= " + b.text + ")",
            [=](const auto& in) { return a.value(in) >= b.value(in) ? 1.0 : 0.0; }};
  }

  Drawn leaf() {
    if (below(4) == 0) {
      const double number = below(100) / 8.0;
      return {fmt::format("{}", number), [=](const auto&) { return number; }};
    }
    const auto i = static_cast<std::size_t>(below(int(kNames.size())));
    return {kNames[i], [=](const auto& in) { return in[i]; }};
  }

  int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }
  std::mt19937 random_;
};

TEST(RowExpression, DrawnTreesAreReadPrintedAndReadAgain) {
  for (unsigned seed = 0; seed < kTrees; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    const Drawn drawn = Drawing(seed).number(4);
    // All operands are read, whatever was drawn.
    const auto text = "(x, gate, w1) -> s = x + gate * w1; return s, " + drawn.text;
    const Body body = parse_body(text, "drawn");
    const auto canonical = print_body(body);
    EXPECT_EQ(parse_body(canonical, "printed"), body) << canonical;
    EXPECT_EQ(printed(canonical), canonical);
    const std::vector<double> operands{0.75 + seed * 0.001, -1.5, 2.25};
    const double wanted = drawn.value(operands);
    if (error_of(text) != "no error") {
      EXPECT_THAT(error_of(text), testing::HasSubstr("whatever the operands are"));
      continue;
    }
    const auto got = values_of(expand(body, "drawn"), operands);
    ASSERT_EQ(got.size(), 2U);
    EXPECT_DOUBLE_EQ(got[0], operands[0] + operands[1] * operands[2]);
    // Numbers beyond fp32 are infinite where they are constant.
    if (std::abs(wanted) < 1e30) {
      EXPECT_NEAR(got[1], wanted, 1e-9 * (1 + std::abs(wanted))) << canonical;
    }
    if (HasFailure()) return;
  }
}

TEST(RowExpression, IsWrittenInOneWay) {
  EXPECT_EQ(printed("(a,b)->((a)*(b+1))"), "(a, b) -> a * (b + 1.0)");
  EXPECT_EQ(printed("(a) -> return a - (a - 1e-05) - -a"), "(a) -> a - (a - 1e-05) - -a");
  EXPECT_EQ(printed("(a) -> (a / 2) / (a * 3) * (-a)"), "(a) -> a / 2.0 / (a * 3.0) * -a");
  EXPECT_EQ(printed("(x) -> c = x > 0; return where(c, x, 0), where((x<1), 1, x)"),
            "(x) -> c = x > 0.0; return where(c, x, 0.0), where(x < 1.0, 1.0, x)");
  EXPECT_EQ(printed("(x)->s=mean(x*x);return x*rsqrt(s+1e-5)"),
            "(x) -> s = mean(x * x); return x * rsqrt(s + 1e-05)");
}

TEST(RowExpression, WhatIsTheSameIsComputedOnce) {
  const auto flops = [](const char* text) {
    return expand(parse_body(text, "test"), "test").flops();
  };
  EXPECT_EQ(flops("(x) -> x * x + x * x"), 2);
  EXPECT_EQ(flops("(x, w) -> rms_norm(x, w, 1e-05)"), 4) << "numbers of a row cost nothing";
  EXPECT_EQ(flops("(x) -> 1.0 * x + 2.0 * 3.0"), 1) << "constants cost nothing";
  EXPECT_EQ(flops("(x, y) -> where(1 < 2, x, exp(y)) + y"), 1);
  // Eight times itself would be 255 operations as a tree.
  EXPECT_EQ(flops("(x) -> relu(x + relu(x + relu(x + relu(x + x))))"), 8);
}

TEST(RowExpression, FaultsAreNamedWithTheirColumn) {
  const auto expect = [](const std::string& text, const std::string& what) {
    EXPECT_THAT(error_of(text), testing::HasSubstr(what)) << text;
  };
  expect("(x) -> sinh(x)",
         "test: expression \"(x) -> sinh(x)\", column 8: there is no operator "
         "sinh; expected one of abs, bf16, erf, exp, fp16");
  expect("(x) -> exp(x, x)", "column 8: exp: expected 1 operands, got 2");
  expect("(x) -> max(x, x, x)", "column 8: max: expected 2 or 1 operands, got 3");
  expect("(x) -> softcap(x)", "column 8: softcap: expected 2 operands, got 1");
  expect("(x) -> x + y", "column 12: there is no y; expected one of x");
  expect("(x) -> s = t; t = x; return s", "column 12: t is read before it is defined");
  expect("(x) -> s = x; s = x; return s", "column 15: s is defined twice");
  expect("(x, x) -> x", "column 5: x is defined twice");
  expect("(x) -> s = x; x", "column 15: expected a statement or return, got \"x\"");
  expect("(x) -> s = x;", "column 14: expected a statement or return, got the end");
  expect("(x) -> ", "column 8: expected what is returned, got the end");
  expect("(x) -> return", "expected what is returned, got the end");
  expect("(x, y) -> x", "column 5: y is never read");
  expect("(x) -> s = x; return x", "column 8: s is never read");
  expect("(x) -> x < 1", "column 8: expected a number, got a comparison");
  expect("(x) -> (x < 1) + x", "column 8: expected a number, got a comparison");
  expect("(x) -> x < 1 < 2", "column 8: expected a number, got a comparison");
  expect("(x) -> where(x, x, x)", "column 14: where: expected a comparison, got a number");
  expect("(x) -> silu(x < 1)", "column 13: expected a number, got a comparison");
  expect("(x) -> x x", "column 10: expected the end, got \"x\"");
  expect("(x) -> x +", "column 11: expected a name, a number or \"(\", got the end");
  expect("(x) -> (x", "expected \")\", got the end");
  expect("(x) -> 1e99 * x", "expected a number that fp32 holds, got \"1e99\"");
  expect("(x) -> 1.2.3 * x", "expected a number that fp32 holds, got \"1.2.3\"");
  expect("(x) -> x @ x", "column 10: unexpected character '@'");
  expect("(x) -> x \"", "unexpected character '\"'");
  expect("x", "column 1: expected \"(\", got \"x\"");
  expect("() -> 1", "expected a name, got \")\"");
  expect("(return) -> 1", "return is no name");
  expect("(x) -> x, x, x, x, x", "more than 4 results");
  expect("(x) -> x * 0 + mean(2 * 3)", "mean of what is the same in all of a row");
  expect("(x) -> mean(mean(x)) + x", "mean of what is the same in all of a row");
  expect("(x) -> x, 2 * 3", "a result is 6.0 whatever the operands are");
}

TEST(RowExpression, HostileTextIsAnErrorAndNoMore) {
  const auto repeated = [](const std::string& text, int n) {
    std::string all;
    for (int i = 0; i < n; ++i) all += text;
    return all;
  };
  const auto deep = testing::HasSubstr("nested deeper than 48 levels");
  EXPECT_THAT(error_of("(x) -> " + repeated("(", 4000)), deep);
  EXPECT_THAT(error_of("(x) -> " + repeated("-", 4000) + "x"), deep);
  EXPECT_THAT(error_of("(x) -> " + repeated("exp(", 1000)), deep);
  EXPECT_THAT(error_of("(x) -> x" + repeated(" + x", 1000)), deep);
  EXPECT_THAT(error_of("(x) -> x" + repeated(" ", 5000)),
              testing::HasSubstr("5008 characters; expected at most 4096"));
  EXPECT_THAT(error_of("(x) -> " + repeated("s", 4000)), testing::HasSubstr("there is no sss"));
  // Helpers in helpers grow by what they add, not by what they read.
  EXPECT_EQ(error_of("(x) -> " + repeated("gelu_tanh(", 40) + "x" + repeated(")", 40)), "no error");
  std::string many = "(x) -> s0 = gelu_tanh(x); ";
  for (int i = 1; i < 120; ++i) many += fmt::format("s{} = gelu_tanh(s{}); ", i, i - 1);
  EXPECT_THAT(error_of(many + "return s119"), testing::HasSubstr("more than 1024 operations"));
  // Bodies with some of their bytes replaced, doubled or left out.
  const std::string whole =
      "(x, w) -> c = x - mean(x); f = rsqrt(mean(c * c) + 1e-05); return where(x < w, c * f, -w)";
  std::mt19937 random(11);
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  int n_errors = 0;
  for (int i = 0; i < 4000; ++i) {
    auto text = whole;
    for (std::size_t n = 1 + below(4); n > 0; --n) {
      const auto at = below(text.size());
      if (below(3) == 0)
        text.erase(at, 1 + below(6));
      else if (below(2) == 0)
        text.insert(at, text.substr(below(text.size()), below(12)));
      else
        text[at] = static_cast<char>(below(256));
      if (text.empty()) text = " ";
    }
    n_errors += error_of(text) != "no error";
  }
  EXPECT_GT(n_errors, 3000);
  EXPECT_LT(n_errors, 4000);
}

}  // namespace
}  // namespace nereid::graph::expression
