// A file is there whole or not at all, whoever writes it at the same time.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"

namespace nereid {
namespace {

namespace fs = std::filesystem;

class WriteFile : public testing::Test {
 protected:
  WriteFile() { fs::create_directories(dir_); }
  ~WriteFile() override { fs::remove_all(dir_); }

  const fs::path dir_ =
      fs::path(testing::TempDir()) / ("nereid-write-file-" + std::to_string(::getpid()));
};

TEST_F(WriteFile, ThreadsOfOneProcessMayWriteTheSame) {
  constexpr int kNThreads = 8, kNTimes = 100;
  const std::string text(5000, 'x');
  std::vector<std::thread> threads;
  for (int i = 0; i < kNThreads; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < kNTimes; ++n) {
        ASSERT_NO_THROW(write_text_file(dir_ / "plan", text));
        ASSERT_EQ(read_text_file(dir_ / "plan"), text);
      }
    });
  for (auto& thread : threads) thread.join();
  const auto files = fs::directory_iterator(dir_);
  EXPECT_EQ(std::distance(fs::begin(files), fs::end(files)), 1);
}

TEST_F(WriteFile, WhatCannotBeWrittenIsAnErrorAndLeavesNothing) {
  fs::create_directories(dir_ / "folder" / "full");
  for (const auto& path : {dir_ / "folder", dir_ / "nowhere" / "plan"})
    EXPECT_THROW(write_text_file(path, "text"), Error);
  const auto files = fs::directory_iterator(dir_);
  EXPECT_EQ(std::distance(fs::begin(files), fs::end(files)), 1);
}

}  // namespace
}  // namespace nereid
