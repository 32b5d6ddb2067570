#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/safetensors_header.h"
#include "model/safetensors_writer.h"

namespace nereid::model {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::filesystem::path kSource = NEREID_SOURCE_DIR;

std::string file_of(const std::string& header, std::size_t n_data_bytes,
                    std::optional<std::uint64_t> header_bytes = std::nullopt) {
  const std::uint64_t length = header_bytes.value_or(header.size());
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  file += header;
  for (std::size_t i = 0; i < n_data_bytes; ++i) file += char(i);
  return file;
}

std::vector<TensorEntry> parse(const std::string& file) {
  return parse_safetensors_header(std::as_bytes(std::span(file)), "w.safetensors");
}

template <typename Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

class SafetensorsFolder : public testing::Test {
 protected:
  SafetensorsFolder()
      : path_(std::filesystem::path(testing::TempDir()) /
              fmt::format("nereid_safetensors_{}_{}", ::getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(path_);
  }
  ~SafetensorsFolder() override { std::filesystem::remove_all(path_); }

  std::filesystem::path path_;
};

TEST(Safetensors, FindsEveryTensor) {
  const auto entries = parse(file_of(
      R"({"__metadata__":{"format":"pt"},"b":)" + entry("F16", "[2,3]", "[4,16]") + R"(,"a":)" +
          entry("F32", "[]", "[0,4]") + R"(,"none":)" + entry("BF16", "[0,7]", "[4,4]") + "}   ",
      16));
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "a");
  EXPECT_EQ(entries[1].name, "none");
  EXPECT_EQ(entries[2].name, "b");
  EXPECT_EQ(entries[2].dtype, DType::fp16);
  EXPECT_THAT(entries[2].shape, ElementsAre(2, 3));
  EXPECT_EQ(entries[2].end - entries[2].begin, 12u);
  EXPECT_TRUE(parse(file_of("{}", 0)).empty());
}

TEST(Safetensors, ReadsFixtures) {
  const SafetensorsFile file(kSource / "tests/fixtures/llama3/model.safetensors");
  EXPECT_EQ(file.tensors().size(), 21u);
  const auto& head = file.tensors().at("lm_head.weight");
  EXPECT_EQ(head.dtype, DType::fp16);
  EXPECT_THAT(head.shape, ElementsAre(512, 128));
  EXPECT_TRUE(file.foreign().empty());
}

// Whether such a tensor is needed is not known here: only its place is checked.
TEST(Safetensors, KeepsTypesThatAreNotOurs) {
  const auto entries = parse(file_of(R"({"a":)" + entry("F4", "[6]", "[0,3]") + R"(,"b":)" +
                                         entry("F99", "[2]", "[3,8]") + R"(,"c":)" +
                                         entry("F16", "[]", "[8,10]") + "}",
                                     10));
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].dtype, std::nullopt);
  EXPECT_EQ(entries[0].dtype_name, "F4");
  EXPECT_EQ(entries[1].dtype_name, "F99");
  EXPECT_EQ(entries[1].end - entries[1].begin, 5u);
  EXPECT_EQ(entries[2].dtype, DType::fp16);
}

TEST(Safetensors, HostileHeadersAreErrors) {
  struct Row {
    std::string file;
    const char* message;
  };
  const auto one = [](const std::string& value, std::size_t n_data_bytes = 16) {
    return file_of(R"({"w":)" + value + "}", n_data_bytes);
  };
  const std::string good = entry("F32", "[4]", "[0,16]");
  std::string dims = "[1";
  for (int i = 0; i < 100; ++i) dims += ",1";
  const std::vector<Row> rows{
      {"", "the file is empty"},
      {"1234567", "7 bytes; expected at least 8"},
      {file_of("{}", 0, std::uint64_t(1) << 63), "should have 9223372036854775808 bytes"},
      {file_of("{}", 0, ~std::uint64_t(0)), "should have 18446744073709551615 bytes"},
      {file_of("{}", 0, 3),
       "has 3 bytes, of which 2 are there: the file is a download that was not"},
      {file_of("{}", 0, 0), "it begins with zeros"},
      {file_of("{} x", 0), "not valid JSON"},
      {file_of("\xff\xfe", 0), "not valid JSON"},
      {file_of("[]", 0), "expected a JSON object as header, got a list"},
      {file_of("7", 0), "expected a JSON object as header, got 7"},
      {file_of(std::string(100000, '['), 0), "expected a JSON object as header"},
      {file_of(R"({"w":7})", 0),
       "\"w\": expected an object of dtype, shape and data_offsets, got 7"},
      {file_of(R"({"__metadata__":{"a":1}})", 0), "expected a string as value, got 1"},
      {file_of(R"({"__metadata__":{"a":{}}})", 0), "expected a string as value, got an object"},
      {file_of(R"({"__metadata__":"a"})", 0), "got \"a\""},
      {file_of(R"({"w":{"dtype":"F32","shape":[4]}})", 0), "data_offsets is missing"},
      {file_of(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", 4), "shape is missing"},
      {file_of(R"({"w":{"shape":[],"data_offsets":[0,4]}})", 4), "dtype is missing"},
      {file_of(R"({"w":{"x":1}})", 0), "field \"x\" is unknown"},
      {file_of(R"({"w":{"dtype":"F32","dtype":"F32"}})", 0), "there twice"},
      {file_of(R"({"w":)" + good + R"(,"w":)" + good + "}", 16), "\"w\": the name is there twice"},
      {one(entry("F31", "[4]", "[16,0]")), "[16, 0] end before they begin"},
      {one(entry("F31", "[4]", "[0,17]")), "was not finished"},
      {one(entry("F31", "[4]", "[0,8]")), "the tensors end at byte"},
      {one(entry("F32", "[4]", "[0,8]"), 8), "takes 16 bytes; data_offsets [0, 8] have 8"},
      {one(entry("F32", "[4]", "[16,0]")), "[16, 0] end before they begin"},
      {one(entry("F32", "[4]", "[0,16,32]")), "unexpected 32"},
      {one(entry("F32", "[4]", "[0]")), "has 1 numbers; expected 2"},
      {one(entry("F32", "[4]", "[]")), "has 0 numbers; expected 2"},
      {one(entry("F32", "[4]", "[0,-16]")), "unexpected -16"},
      {one(entry("F32", "[4]", "[0,16.0]")), "unexpected \"16.0\""},
      {one(entry("F32", "[4]", "[[0],16]")), "unexpected a list"},
      {one(entry("F32", "[-4]", "[0,16]")), "shape: unexpected -4"},
      {one(entry("F32", "[null]", "[0,16]")), "shape: unexpected null"},
      {one(entry("F32", "[9223372036854775808]", "[0,16]")), "less than 2^63"},
      {one(entry("F32", "[4611686018427387904,4]", "[0,16]")), "larger than any file"},
      {one(entry("F32", "[4]", "[18446744073709551599,18446744073709551615]")), "outside of any"},
      {one(entry("F32", dims + "]", "[0,4]"), 4), "more than 64 dimensions"},
      {one(good, 15), "78 of 79 bytes are there: the file is a download that was not finished"},
      {one(good, 17), "the tensors end at byte"},
      {one(entry("F32", "[4]", "[4,20]"), 20), "begins at byte"},
      {file_of(R"({"v":)" + good + R"(,"w":)" + entry("F32", "[4]", "[8,24]") + "}", 24),
       "tensor \"w\" begins at byte"},
      {file_of(R"({"v":)" + good + R"(,"w":)" + good + "}", 16), "neither overlap"},
  };
  for (const Row& row : rows) {
    const std::string message = error_of([&] { parse(row.file); });
    EXPECT_THAT(message, AllOf(HasSubstr(row.message), HasSubstr("w.safetensors")))
        << row.file.substr(0, 100);
    EXPECT_LT(message.size(), 700u);
  }
}

TEST(Safetensors, LongAndStrangeNamesAreCutInMessages) {
  const std::string name(50000, 'n');
  const std::string message =
      error_of([&] { parse(file_of(R"({"\u001b[2J)" + name + R"(":7})", 0)); });
  EXPECT_LT(message.size(), 500u);
  EXPECT_THAT(message, HasSubstr("\\u001b[2Jnnn"));
}

// A real header with bytes changed, cut and repeated at random: an Error, or entries that lie in
// the file.
TEST(Safetensors, MutatedHeadersAreErrorsOrSane) {
  const std::string original =
      read_text_file(kSource / "tests/fixtures/qwen2/model.safetensors").substr(0, 8 + 2688);
  const std::size_t data_bytes =
      std::filesystem::file_size(kSource / "tests/fixtures/qwen2/model.safetensors") -
      original.size();
  std::mt19937 random(5);
  int n_accepted = 0;
  for (int run = 0; run < 3000; ++run) {
    std::string file = original;
    for (std::uint32_t i = random() % 3; i < 3; ++i) {
      const std::size_t at = (run % 16 == 0 ? 0 : 8) + random() % (file.size() - 8);
      if (random() % 4 == 0)
        file[at] = char(random() % 256);
      else
        file[at] = "0123456789,:{}[]\"-eE.tf"[random() % 22];
    }
    if (random() % 16 == 0) {
      const std::size_t from = 8 + random() % (file.size() - 8);
      file.insert(8 + random() % (file.size() - 8), file.substr(from, random() % 200));
    }
    if (random() % 16 == 0) file.resize(random() % file.size());
    const bool has_data = random() % 16 != 0;
    if (has_data) file.append(data_bytes, '\0');
    try {
      std::size_t last = 0;
      for (const auto& tensor : parse(file)) {
        ASSERT_LE(last, tensor.begin);
        ASSERT_LE(tensor.begin, tensor.end);
        ASSERT_LE(tensor.end, file.size());
        ASSERT_TRUE(!tensor.dtype ||
                    tensor.end - tensor.begin ==
                        std::size_t(n_elements(tensor.shape)) * dtype_size_bytes(*tensor.dtype));
        last = tensor.end;
      }
      n_accepted += 1;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(n_accepted, 50);  // changed names
  EXPECT_LT(n_accepted, 2900);
}

TEST_F(SafetensorsFolder, WrittenTensorsReadBack) {
  const std::vector<float> logits{1.5F, -2.0F, 3.25F, 0.0F, 5.0F, 6.0F};
  const std::vector<std::int32_t> ids{7, 8, 9};
  write_safetensors(path_ / "model.safetensors",
                    {{"logits", {DType::fp32, {2, 3}, std::as_bytes(std::span(logits))}},
                     {"ids", {DType::i32, {3}, std::as_bytes(std::span(ids))}},
                     {"empty", {DType::bf16, {0, 4}, {}}}});
  const SafetensorsFile file(path_ / "model.safetensors");
  EXPECT_EQ(file.tensors().size(), 3u);
  const auto& read = file.tensors().at("logits");
  EXPECT_EQ(read.dtype, DType::fp32);
  EXPECT_THAT(read.shape, ElementsAre(2, 3));
  EXPECT_EQ(std::memcmp(read.bytes.data(), logits.data(), 24), 0);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(read.bytes.data()) % 64, 0u);
  EXPECT_EQ(std::memcmp(file.tensors().at("ids").bytes.data(), ids.data(), 12), 0);
  // Nothing is left beside it.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path_), {}), 1);
}

// Any tensors, in pieces of any size.
TEST_F(SafetensorsFolder, WhatComesInPiecesReadsBack) {
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937 random(seed);
    std::vector<TensorPlace> places;
    std::string bytes;
    for (std::size_t i = random() % 6; i < 6; ++i) {
      const auto dtype = kDTypes[random() % kDTypes.size()].dtype;
      Shape shape;
      for (std::size_t n = random() % 4; n < 3; ++n) shape.push_back(std::int64_t(random() % 7));
      places.push_back({fmt::format("t\"{}\u00e9", i), dtype, shape});
      for (std::size_t n = places.back().size_bytes(); n > 0; --n) bytes += char(random());
    }
    SafetensorsWriter writer(path_ / "a.safetensors", places, {{"format", "pt"}});
    const auto all = std::as_bytes(std::span(bytes));
    for (std::size_t at = 0; at < all.size();) {
      const auto n = std::min<std::size_t>(all.size() - at, 1 + random() % 100);
      writer.write(all.subspan(at, n));
      at += n;
      EXPECT_EQ(writer.missing_bytes(), all.size() - at);
    }
    writer.finish();
    const SafetensorsFile file(path_ / "a.safetensors");
    EXPECT_EQ(file.tensors().size(), places.size());
    std::size_t at = 0;
    for (const auto& place : places) {
      const auto& read = file.tensors().at(place.name);
      EXPECT_EQ(read.dtype, place.dtype);
      EXPECT_EQ(read.shape, place.shape);
      ASSERT_EQ(read.bytes.size(), place.size_bytes());
      EXPECT_TRUE(std::ranges::equal(read.bytes, all.subspan(at, read.bytes.size())));
      at += read.bytes.size();
    }
  }
}

TEST_F(SafetensorsFolder, WhatIsNotFinishedLeavesNothing) {
  {
    SafetensorsWriter writer(path_ / "a.safetensors", std::vector<TensorPlace>{{"t", {}, {3}}});
    writer.write(std::as_bytes(std::span("1234")));
  }
  EXPECT_TRUE(std::filesystem::is_empty(path_));
}

TEST_F(SafetensorsFolder, UnwritablePathIsAnError) {
  const std::string message =
      error_of([&] { write_safetensors(path_ / "no" / "such" / "folder.safetensors", {}); });
  EXPECT_THAT(message, AllOf(HasSubstr("cannot write"), HasSubstr("No such file")));
}

}  // namespace
}  // namespace nereid::model
