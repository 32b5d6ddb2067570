// docs/cpu_target.md says what the compiler knows and refuses: held to ops.def and to the parser.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <string_view>

#include "base/error.h"
#include "ir.h"

namespace nereid::ttir {
namespace {

// What stands between the marker, whose line ends in "-->", and the next "<!-- end -->".
std::string section(std::string_view marker) {
  std::ifstream file(NEREID_SOURCE_DIR "/docs/cpu_target.md", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const std::size_t at = text.find(marker);
  const std::size_t begin = text.find('\n', at) + 1;
  const std::size_t end = text.find("<!-- end -->", begin);
  if (at == std::string::npos || end == std::string::npos) return "";
  return text.substr(begin, end - begin);
}

TEST(TtirDocs, TheTableOfOperationsIsComplete) {
  const std::pair<OpClass, const char*> classes[] = {{OpClass::elementwise, "elementwise"},
                                                     {OpClass::shape, "shape"},
                                                     {OpClass::memory, "memory"},
                                                     {OpClass::reduction, "reduction"},
                                                     {OpClass::matmul, "matmul"},
                                                     {OpClass::control, "control"},
                                                     {OpClass::other, "other"}};
  std::string wanted = "| class | operations |\n|---|---|\n";
  for (const auto& [op_class, name] : classes) {
    wanted += fmt::format("| {} |", name);
    for (const auto& [spelling, its_class] : {
#define TTIR_OP(enumerator, text, a_class) std::pair{std::string_view(text), OpClass::a_class},
#include "ops.def"
#undef TTIR_OP
         })
      if (its_class == op_class) wanted += fmt::format(" `{}`", spelling);
    wanted += " |\n";
  }
  EXPECT_EQ(section("<!-- operations"), wanted);
}

TEST(TtirDocs, TheListOfInstructionsIsComplete) {
  std::string wanted;
#define PTX_OP(spelling, ...) wanted += fmt::format("{}`{}`", wanted.empty() ? "" : " ", spelling);
#include "emit/ptx.def"
#undef PTX_OP
  EXPECT_EQ(section("<!-- ptx"), wanted + "\n");
}

TEST(TtirDocs, WhatItCallsRefusedIsRefused) {
  const std::string list = section("<!-- refused");
  int n_operations = 0;
  for (std::size_t at = list.find("* `"); at != std::string::npos; at = list.find("* `", at + 1)) {
    const std::string name = list.substr(at + 3, list.find('`', at + 3) - at - 3);
    const std::string text = "tt.func public @k() {\n" + name + "\ntt.return\n}";
    try {
      parse_module(text, "k.ttir");
      ADD_FAILURE() << name << " was read";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(),
                  testing::StartsWith("k.ttir:2: " + name + ": operation not supported"));
    }
    ++n_operations;
  }
  EXPECT_GE(n_operations, 5);
}

}  // namespace
}  // namespace nereid::ttir
