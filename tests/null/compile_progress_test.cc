#include "kernel/compile_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nereid::kernel {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr std::string_view kThree = R"({"done": 3, "total": 25, "kernel": "rms_norm"})";
constexpr std::string_view kFour = R"({"done": 4, "total": 25, "kernel": "add"})";
constexpr std::string_view kAll = R"({"done": 25, "total": 25, "kernel": "add"})";

class CompileProgressTest : public ::testing::Test {
 protected:
  CompileProgress::Clock::time_point at(int ms) const { return begin_ + milliseconds(ms); }
  CompileProgress::Clock::time_point begin_ = CompileProgress::Clock::now();
};

TEST_F(CompileProgressTest, ALogGetsALineAtOnceThenEveryFewSecondsAndOneAtTheEnd) {
  CompileProgress progress(false);
  EXPECT_EQ(progress.tick(at(0)), "");
  EXPECT_THAT(progress.take(kThree, at(100)), HasSubstr("3 of 25, 0 s\n"));
  EXPECT_EQ(progress.take(kFour, at(300)), "");
  EXPECT_EQ(progress.tick(at(5000)), "");
  // Also while one kernel takes long.
  EXPECT_THAT(progress.tick(at(5200)), HasSubstr("4 of 25, 5 s\n"));
  EXPECT_EQ(progress.tick(at(6000)), "");
  EXPECT_THAT(progress.tick(at(10300)), HasSubstr("4 of 25, 10 s\n"));
  EXPECT_EQ(progress.take(kAll, at(10400)), "");
  EXPECT_THAT(progress.finish(at(10500)), HasSubstr("25 of 25, 10 s\n"));
}

TEST_F(CompileProgressTest, ALogIsNotToldOfWhatWasCompiledBefore) {
  CompileProgress progress(false);
  EXPECT_EQ(progress.take(kAll, at(0)), "");
  EXPECT_EQ(progress.tick(at(60000)), "");
  EXPECT_EQ(progress.finish(at(60000)), "");
}

TEST_F(CompileProgressTest, ATerminalGetsABarThatGoesAway) {
  CompileProgress progress(true);
  const auto bar = progress.take(kThree, at(0));
  EXPECT_THAT(bar, HasSubstr("3/25 rms_norm"));
  EXPECT_EQ(bar.find('\n'), std::string::npos);
  EXPECT_THAT(progress.take(kAll, at(1)), HasSubstr("[==============================] 25/25"));
  EXPECT_EQ(progress.tick(at(60000)), "");
  EXPECT_EQ(progress.finish(at(60000)), "\r\033[K");
}

TEST_F(CompileProgressTest, WhatIsNoProgressIsPassedOver) {
  for (const bool is_terminal : {false, true}) {
    CompileProgress progress(is_terminal);
    for (const char* line : {"", "hello", "[1, 2]", R"({"done": 3})", R"({"total": 3})", "{"})
      EXPECT_EQ(progress.take(line, at(0)), "") << line;
    EXPECT_EQ(progress.finish(at(0)), "");
  }
}

}  // namespace
}  // namespace nereid::kernel
