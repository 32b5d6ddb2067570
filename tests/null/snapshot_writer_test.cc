// A model's directory: all of it or nothing, in files of a stated size.
#include "model/snapshot_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/checkpoint.h"

namespace nereid::model {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class SnapshotFolder : public testing::Test {
 protected:
  SnapshotFolder()
      : path_(fs::path(testing::TempDir()) /
              fmt::format("nereid_snapshot_{}_{}", ::getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(path_);
  }
  ~SnapshotFolder() override { fs::remove_all(path_); }

  std::string error_of(const fs::path& dir) const {
    try {
      SnapshotWriter(dir, {{{"t", DType::fp32, {2}}}}, 100);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  std::size_t n_entries() const {
    return std::size_t(std::distance(fs::directory_iterator(path_), {}));
  }

  fs::path path_;
};

TEST_F(SnapshotFolder, ReadsBackWhateverTheShards) {
  for (std::uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937 random(seed);
    std::vector<SnapshotWriter::Group> groups;
    std::string bytes;
    for (std::size_t i = 1 + random() % 6; i > 0; --i) {
      auto& group = groups.emplace_back();
      for (std::size_t j = 1 + random() % 3; j > 0; --j) {
        group.push_back({fmt::format("t.{}.{}", i, j), DType::fp16, {std::int64_t(random() % 40)}});
        for (std::size_t n = group.back().size_bytes(); n > 0; --n) bytes += char(random());
      }
    }
    const std::int64_t max_shard_bytes = 1 + std::int64_t(random() % 200);
    const auto dir = path_ / fmt::format("model_{}", seed);
    if (random() % 2 == 0) fs::create_directories(dir);
    std::size_t n_shards = 0;
    {
      SnapshotWriter writer(dir, groups, max_shard_bytes);
      EXPECT_EQ(writer.tensor_bytes(), bytes.size());
      n_shards = writer.n_shards();
      const auto all = std::as_bytes(std::span(bytes));
      for (std::size_t at = 0; at < all.size();) {
        const auto n = std::min<std::size_t>(all.size() - at, 1 + random() % 100);
        writer.write(all.subspan(at, n));
        at += n;
      }
      writer.write_json("config.json", {{"model_type", "llama"}});
      EXPECT_TRUE(!fs::exists(dir) || fs::is_empty(dir));
      writer.finish();
    }
    EXPECT_EQ(read_json_file(dir / "config.json"), (Json{{"model_type", "llama"}}));
    const auto checkpoint = Checkpoint::open(dir);
    std::size_t at = 0, n_tensors = 0;
    for (const auto& group : groups)
      for (const auto& place : group) {
        const auto read = checkpoint.get(place.name);
        EXPECT_EQ(read.shape, place.shape);
        ASSERT_EQ(read.bytes.size(), place.size_bytes());
        EXPECT_EQ(std::memcmp(read.bytes.data(), bytes.data() + at, read.bytes.size()), 0);
        at += read.bytes.size();
        n_tensors += 1;
      }
    EXPECT_EQ(checkpoint.n_tensors(), n_tensors);
    std::size_t n_files = 0;
    for (const auto& file : fs::directory_iterator(dir)) {
      if (file.path().extension() != ".safetensors") continue;
      n_files += 1;
      std::size_t file_bytes = 0;
      std::set<std::string> groups_in_it;
      const SafetensorsFile shard(file.path());
      for (const auto& [name, tensor] : shard.tensors()) {
        file_bytes += tensor.bytes.size();
        if (!tensor.bytes.empty()) groups_in_it.insert(name.substr(0, name.rfind('.')));
      }
      EXPECT_TRUE(file_bytes <= std::size_t(max_shard_bytes) || groups_in_it.size() == 1);
    }
    EXPECT_EQ(n_files, n_shards);
    EXPECT_EQ(fs::exists(dir / "model.safetensors.index.json"), n_shards > 1);
  }
}

TEST_F(SnapshotFolder, WhatIsNotFinishedLeavesNothing) {
  {
    SnapshotWriter writer(path_ / "a", {{{"t", DType::fp32, {3}}}}, 100);
    writer.write(std::as_bytes(std::span("1234")));
    writer.write_json("config.json", Json::object());
    EXPECT_EQ(n_entries(), 1U);
  }
  EXPECT_TRUE(fs::is_empty(path_));
}

TEST_F(SnapshotFolder, NothingIsOverwritten) {
  std::ofstream(path_ / "file") << "mine";
  fs::create_directories(path_ / "empty");
  fs::create_directory_symlink(path_ / "empty", path_ / "link");
  EXPECT_THAT(error_of(path_), HasSubstr("is not empty"));
  EXPECT_THAT(error_of(path_ / "file"), HasSubstr("is no directory"));
  EXPECT_THAT(error_of(path_ / "file" / "a"), HasSubstr("Not a directory"));
  EXPECT_EQ(error_of(path_ / "empty"), "no error");
  // Through a link, and with a slash at the end.
  SnapshotWriter writer((path_ / "link").string() + "/", {}, 100);
  writer.write_json("config.json", Json::object());
  writer.finish();
  EXPECT_TRUE(fs::exists(path_ / "empty" / "config.json"));
  EXPECT_EQ(n_entries(), 3U);
}

TEST_F(SnapshotFolder, WhatTheDiskHasNoRoomFor) {
  try {
    SnapshotWriter writer(path_ / "a", {{{"t", DType::fp32, {std::int64_t{1} << 55}}}}, 100);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("make room"));
  }
  EXPECT_TRUE(fs::is_empty(path_));
}

}  // namespace
}  // namespace nereid::model
