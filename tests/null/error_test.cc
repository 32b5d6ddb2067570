// What callers branch on: the code of an error, whoever throws it and whoever adds to its text.
#include "base/error.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/usage_error.h"
#include "device/null/null_device.h"
#include "engine/generator.h"

#include "kernel/bundle.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "nereid/engine.h"
#include "null/fake_runner.h"
#include "tokenizer/tokenizer.h"

namespace nereid {
namespace {

namespace fs = std::filesystem;

// The name of the code of what is thrown.
template <typename Function>
std::string code_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return std::string(error_code_name(error.code()));
  }
  return "no error";
}

TEST(Error, HasATextAndACode) {
  const Error plain("{} is {}; expected {{}}", "x", 7);
  EXPECT_STREQ(plain.what(), "x is 7; expected {}");
  EXPECT_EQ(plain.code(), ErrorCode::invalid_argument);
  const Error coded(ErrorCode::device, "{} failed", std::string("cuInit"));
  EXPECT_STREQ(coded.what(), "cuInit failed");
  EXPECT_EQ(coded.code(), ErrorCode::device);
  const Error copy = coded;
  EXPECT_STREQ(copy.what(), "cuInit failed");
  EXPECT_EQ(copy.code(), ErrorCode::device);
  EXPECT_EQ(UsageError("{}", 1).code(), ErrorCode::invalid_argument);
}

TEST(Error, IsARuntimeErrorToWhoDoesNotKnowIt) {
  try {
    throw Error(ErrorCode::not_found, "no {}", "model");
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "no model");
  }
}

TEST(ErrorCode, EachHasItsName) {
  const std::set<std::string_view> expected{"invalid_argument", "context_length", "overloaded",
                                            "draining",         "not_found",      "device",
                                            "internal"};
  std::set<std::string_view> names;
  for (auto code = 0; code <= int(ErrorCode::internal); ++code)
    names.insert(error_code_name(ErrorCode(code)));
  EXPECT_EQ(names, expected);
}

TEST(ErrorCode, WhatIsNotThereIsNotFound) {
  const fs::path nowhere = "/nowhere/at/all";
  EXPECT_EQ(code_of([&] { const MappedFile file(nowhere); }), "not_found");
  EXPECT_EQ(code_of([&] { model::ModelConfig::load(nowhere); }), "not_found");
  EXPECT_EQ(code_of([&] { model::Checkpoint::open(nowhere); }), "not_found");
  EXPECT_EQ(code_of([&] { kernel::Bundle::open(nowhere); }), "not_found");
  EXPECT_EQ(code_of([&] { tokenizer::Tokenizer::load(nowhere); }), "not_found");
  EXPECT_EQ(code_of([&] { const Engine engine({.model_dir = nowhere, .device = "null"}); }),
            "not_found");
  const auto checkpoint = model::Checkpoint::open(fs::path(NEREID_SOURCE_DIR) / "models/demo");
  EXPECT_EQ(code_of([&] { checkpoint.get("no.such.tensor"); }), "not_found");
}

TEST(ErrorCode, WhatIsThereAndWrongIsAnInvalidArgument) {
  const fs::path folder = NEREID_SOURCE_DIR;
  EXPECT_EQ(code_of([&] { const MappedFile file(folder); }), "invalid_argument");
  EXPECT_EQ(code_of([&] { parse_json("{", "text"); }), "invalid_argument");
  EXPECT_EQ(code_of([&] { const Engine engine({.model_dir = folder, .max_sequences = -1}); }),
            "invalid_argument");
}

TEST(ErrorCode, MemoryThatEndsIsTheDevice) {
  device::NullDevice device("cpu", 1 << 20);
  EXPECT_EQ(code_of([&] { device.allocate(1 << 21, "weights"); }), "device");
}

TEST(ErrorCode, OfARequest) {
  engine::FakeRunner runner({});
  engine::Generator generator(runner, {});
  const auto code = [&](const Request& request) {
    return code_of([&] { generator.submit(request); });
  };
  const auto n_context = std::size_t(engine::FakeRunner::kContext);
  EXPECT_EQ(code({.prompt_ids = std::vector<TokenId>(n_context + 1, 1)}), "context_length");
  EXPECT_EQ(code({.prompt_ids = {1, engine::FakeRunner::kVocab}}), "invalid_argument");
  EXPECT_EQ(code({.prompt_ids = {1}, .sampling = {.top_p = 0}}), "invalid_argument");
  EXPECT_EQ(code({.prompt = "text, but there is no tokenizer"}), "invalid_argument");
  EXPECT_EQ(code({.prompt_ids = std::vector<TokenId>(n_context, 1)}), "no error");
}

}  // namespace
}  // namespace nereid
