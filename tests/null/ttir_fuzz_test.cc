// Whatever the text, the reader gives a module that prints and reads again, or an error with its
// place; and the emitter C++ or an error.
#include <gtest/gtest.h>

#include <array>
#include <cctype>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

#include "base/error.h"
#include "emit.h"
#include "ir.h"
#include "null/ttir_samples.h"

namespace nereid::ttir {
namespace {

// Asks for a long run, and for how many mutations: 500 a second under asan.
const char* long_run() { return std::getenv("NEREID_FUZZ_RUNS"); }

enum class Outcome { module, error };

Outcome read(std::string_view text) {
  std::string printed;
  try {
    printed = print(*parse_module(text, "fuzz"));
  } catch (const Error& error) {
    const std::string_view message = error.what();
    const bool has_place = message.starts_with("fuzz:") && message.size() > 6 &&
                           std::isdigit(static_cast<unsigned char>(message[5])) != 0;
    EXPECT_TRUE(has_place) << message;
    return Outcome::error;
  }
  // What was accepted is whole: its text is accepted again and says the same.
  try {
    EXPECT_EQ(print(*parse_module(printed, "printed")), printed);
  } catch (const Error& error) {
    ADD_FAILURE() << error.what() << "\n" << printed << "\nfrom\n" << text;
  }
  try {
    emit_cpp(*parse_module(text, "fuzz"), "fuzz");
  } catch (const Error&) {  // understood, but not compiled
  }
  return Outcome::module;
}

TEST(TtirFuzz, EveryTruncationIsRefusedOrWhole) {
  for (const Sample& sample : read_samples("")) {
    // But in a long run large samples are cut at every 31st byte: the forms in them recur.
    const std::size_t step = long_run() != nullptr || sample.text.size() < 1500 ? 1 : 31;
    const std::size_t kernel_end = sample.text.rfind("\n}");
    ASSERT_NE(kernel_end, std::string::npos) << sample.name;
    for (std::size_t n = 0; n <= kernel_end; n += step) {
      EXPECT_EQ(read(std::string_view(sample.text).substr(0, n)), Outcome::error)
          << sample.name << " cut at byte " << n;
    }
  }
}

// Pieces that decide how the text around them is read.
constexpr std::array<std::string_view, 46> kPieces = {"tensor<",
                                                      "16x",
                                                      "0x4xf32>",
                                                      "!tt.ptr<",
                                                      "dense<",
                                                      "%0",
                                                      "%5:2 = ",
                                                      "#1",
                                                      "{",
                                                      "}",
                                                      "(",
                                                      ")",
                                                      "[",
                                                      "]",
                                                      "<{",
                                                      "}>",
                                                      "->",
                                                      ":",
                                                      ",",
                                                      "=",
                                                      "^bb0(",
                                                      "\"",
                                                      "//",
                                                      "\n",
                                                      "scf.if ",
                                                      "scf.for ",
                                                      "scf.yield",
                                                      "tt.return",
                                                      "\"tt.reduce\"",
                                                      "arith.constant ",
                                                      "loc(",
                                                      "axis = 99 : i32",
                                                      "-9223372036854775808",
                                                      "18446744073709551616",
                                                      "0xFFFFFFFFFFFFFFFF",
                                                      "1.0e+999",
                                                      "99999999999x",
                                                      "tensor<4096x4096x4096xf32>",
                                                      "%arg0",
                                                      "array<i32: 0, 0>",
                                                      "tt.call @m.smaller__i32_i32(",
                                                      "tt.func private @",
                                                      " scale %0",
                                                      "lhs = e2m1",
                                                      "prmt.b32 $0, $1, {a, b};",
                                                      ".reg .b32 a<2>;"};

std::string mutate(std::string text, const std::vector<Sample>& samples, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  const std::size_t n_changes = below(4) == 0 ? 1 + below(4) : 1;
  for (std::size_t i = 0; i < n_changes; ++i) {
    const std::size_t at = below(text.size());
    const std::size_t length = std::min(below(40), text.size() - at);
    switch (below(8)) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(at, kPieces[below(kPieces.size())]);
        break;
      case 4:
        text.replace(at, length, kPieces[below(kPieces.size())]);
        break;
      case 5:
        text.insert(below(text.size()), text.substr(at, length));
        break;
      case 6: {  // a line goes elsewhere
        const std::size_t begin = text.rfind('\n', at) + 1;
        const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
        const std::string line = text.substr(begin, end - begin);
        if (below(2) == 0) text.erase(begin, end - begin);
        const std::size_t target = text.rfind('\n', below(text.size()));
        text.insert(target == std::string::npos ? 0 : target + 1, line);
        break;
      }
      default: {  // a number becomes another
        const std::size_t digit = text.find_first_of("0123456789", at);
        if (digit != std::string::npos) text[digit] = static_cast<char>('0' + below(10));
        const std::string& other = samples[below(samples.size())].text;
        if (below(4) == 0) text.insert(at, other.substr(below(other.size()), length));
        break;
      }
    }
    if (text.empty()) text = "x";
  }
  return text;
}

TEST(TtirFuzz, MutatedTextIsRefusedOrWhole) {
  const std::vector<Sample> samples = read_samples("");
  ASSERT_GT(samples.size(), 20u);
  std::mt19937_64 random(20261122);
  const int n_runs = long_run() == nullptr ? 4000 : std::atoi(long_run());
  int n_modules = 0;
  for (int run = 0; run < n_runs; ++run) {
    const Sample& sample = samples[random() % samples.size()];
    n_modules += read(mutate(sample.text, samples, random)) == Outcome::module ? 1 : 0;
    if (HasFailure()) FAIL() << "run " << run << ", from " << sample.name;
  }
  // Both ways must be taken, or the mutations are too weak or too strong to test anything.
  EXPECT_GT(n_modules, n_runs / 60);
  EXPECT_LT(n_modules, n_runs / 2);
}

// Depth and sizes that a few bytes can ask for.
TEST(TtirFuzz, HostileSizesAreRefused) {
  const auto kernel = [](const std::string& body) {
    return "tt.func public @k(%p: !tt.ptr<f32>, %c: i1) {\n" + body + "\ntt.return }";
  };
  const auto repeated = [](std::string_view piece, int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += piece;
    return text;
  };
  constexpr int kMany = 200000;
  for (const std::string& text :
       {kernel(repeated("scf.if %c {", kMany)),
        kernel(repeated("scf.if %c {", 65)),
        kernel("%x = arith.constant dense<0> : " + repeated("tensor<1x", kMany)),
        kernel("%x = arith.constant dense<0> : tensor<" + repeated("1x", kMany) + "i32>"),
        kernel("%x = arith.constant dense<0> : tensor<" + repeated("9", kMany) + "xi32>"),
        kernel("%x = arith.constant dense<0> : tensor<4294967296x4294967296xi32>"),
        kernel("%x = ub.poison {a = " + repeated("[", kMany) + "} : i32"),
        kernel("%x = ub.poison {a = " + repeated("{b = ", kMany) + "} : i32"),
        kernel("%x = ub.poison : " + repeated("!tt.ptr<", kMany)),
        kernel("%x:4000000000 = ub.poison : i32"),
        kernel("%x:1024 = ub.poison : i32"),
        kernel(repeated("\"tt.reduce\"(%p) ({", kMany)),
        repeated("module {", kMany),
        kernel(repeated("tt.call @f() : () -> ()\n", 1001)) + "tt.func private @f() { tt.return }",
        kernel(repeated("tt.call @f() : () -> ()\n", 999)) + "tt.func private @f() {" +
            repeated("%x = ub.poison : i32\n", 1) + repeated(" ", 20000) + "tt.return }",
        kernel("tt.call @f() : () -> ()") + "tt.func private @f() { tt.call @f() : () -> () }",
        repeated("#", kMany),
        repeated("\"", kMany + 1),
        repeated("(", kMany),
        std::string(kMany, '\0'),
        std::string(kMany, '\xFF')}) {
    EXPECT_EQ(read(text), Outcome::error) << text.substr(0, 100);
  }
}

}  // namespace
}  // namespace nereid::ttir
