// A user's file of attention functions on its way from a graph to a bundle: beside the requests
// that name it, under the name that they give it, and compiled.
#include <gtest/gtest.h>

#include <filesystem>
#include <span>
#include <string>

#include "base/error.h"
#include "base/mapped_file.h"
#include "graph/ir.h"
#include "kernel/bundle_source.h"
#include "kernel/compile_client.h"
#include "program/lower.h"

namespace nereid::program {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSource = R"(import triton
import triton.language as tl


@triton.jit
def every(seq, head, token, q_pos, k_pos, n):
    return k_pos % n == 0
)";

kernel::KernelRequest request_of(const std::string& function) {
  const auto text = fmt::format(R"(graph g {{
  input %q: fp32[T, 2, 64]
  state %k: fp16[8, 2, 64, 64]
  input %tables: i32[S, 8]
  input %starts: i32[S+1]
  input %lens: i32[S]
  %out: fp32[T, 2, 64] = attention %q, %k, %k, %tables, %starts, %lens {{mask = "causal & {}"}}
  return %out
}})",
                                function);
  const Bounds decode{{.n_tokens = 4, .n_sequences = 4, .n_decodes = 4}, true, "cpu"};
  return lower(graph::parse(text, "test"), decode, KernelTables::builtin()).at(0).choice->request;
}

class FunctionFile : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    write_text_file(file_, kSource);
  }
  void TearDown() override { fs::remove_all(folder_); }

  const fs::path folder_ = fs::path(testing::TempDir()) / "function_file_test";
  const fs::path file_ = folder_ / "mine.py";
};

TEST_F(FunctionFile, GoesToTheCompilerWithTheRequestsThatNameIt) {
  const auto request = request_of(file_.string() + ":every(4)");
  const auto bundle =
      kernel::compile_bundle("cpu", "", std::span(&request, 1), folder_ / "bundle", 1, {});
  EXPECT_NE(bundle.find(request.key()), nullptr);
  const auto& [name, source] = *request.function_files.begin();
  EXPECT_EQ(read_text_file(folder_ / "bundle" / "generated" / "functions" / (name + ".py")),
            kSource);
}

TEST_F(FunctionFile, WhatItHasNotIsNamed) {
  const auto request = request_of(file_.string() + ":evry(4)");
  try {
    kernel::compile_bundle("cpu", "", std::span(&request, 1), folder_ / "bundle", 1, {});
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("has no function evry with @triton.jit; it has every"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace nereid::program
