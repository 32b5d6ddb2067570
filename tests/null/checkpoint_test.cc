#include "model/checkpoint.h"
#include "model/stored_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace nereid::model {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::filesystem::path kSource = NEREID_SOURCE_DIR;
constexpr const char* kIndex = "model.safetensors.index.json";

struct Stored {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::size_t n_bytes;
};

std::string file_of(const std::vector<Stored>& tensors) {
  Json header = Json::object();
  std::size_t end = 0;
  for (const auto& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {end, end + tensor.n_bytes}}};
    end += tensor.n_bytes;
  }
  const std::string text = header.dump();
  const std::uint64_t length = text.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + text + std::string(end, '\0');
}

class CheckpointFolder : public testing::Test {
 protected:
  CheckpointFolder()
      : path_(std::filesystem::path(testing::TempDir()) /
              fmt::format("nereid_checkpoint_{}_{}", ::getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(path_);
  }
  ~CheckpointFolder() override { std::filesystem::remove_all(path_); }

  void write(const std::string& name, const std::string& text) const {
    write_text_file(path_ / name, text);
  }
  void write_index(const Json& weight_map) const {
    write(kIndex, Json{{"weight_map", weight_map}}.dump());
  }
  // Of opening the directory and, then, getting a tensor.
  std::string error_of(const std::string& tensor = "") const {
    try {
      const auto checkpoint = Checkpoint::open(path_);
      if (!tensor.empty()) checkpoint.get(tensor);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  std::filesystem::path path_;
};

TEST(Checkpoint, ReadsShards) {
  const auto checkpoint = Checkpoint::open(kSource / "models/demo");
  EXPECT_THAT(checkpoint.get("model.embed_tokens.weight").shape, ElementsAre(8192, 384));
  EXPECT_TRUE(checkpoint.contains("model.norm.weight"));
  EXPECT_FALSE(checkpoint.contains("model.norm"));
  try {
    checkpoint.get("model.norm");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("tensor model.norm not found"),
                                    HasSubstr("\"model.norm.weight\"")));
  }
}

TEST(Checkpoint, ReleasedBytesCanBeReadAgain) {
  const auto checkpoint = Checkpoint::open(kSource / "tests/fixtures/llama3");
  const auto& head = checkpoint.get("lm_head.weight");
  // The file's first tensor: its bytes follow the header.
  const std::string file = read_text_file(kSource / "tests/fixtures/llama3/model.safetensors");
  checkpoint.release(head);
  EXPECT_EQ(std::memcmp(head.bytes.data(), file.data() + 8 + 2176, head.bytes.size()), 0);
}

TEST(Checkpoint, RowsOfATensor) {
  const auto checkpoint = Checkpoint::open(kSource / "tests/fixtures/phi3");
  const std::string name = "model.layers.1.self_attn.qkv_proj.weight";
  const auto whole = checkpoint.get(name);
  ASSERT_THAT(whole.shape, ElementsAre(256, 128));
  const auto rows = checkpoint.get(rows_name(name, {128, 64, 256}));
  EXPECT_THAT(rows.shape, ElementsAre(64, 128));
  EXPECT_EQ(rows.bytes.data(), whole.bytes.data() + 128 * 128 * 2);
  EXPECT_EQ(rows.bytes.size(), 64u * 128 * 2);
  EXPECT_TRUE(checkpoint.contains(rows_name(name, {128, 64, 256})));
  // Where config.json makes all parts another number of rows.
  try {
    checkpoint.get(rows_name(name, {0, 64, 320}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr(name), HasSubstr("expected 320 rows"), HasSubstr("[256, 128]")));
  }
}

TEST(Checkpoint, ColumnsOfATensor) {
  const auto checkpoint = Checkpoint::open(kSource / "tests/fixtures/phi3");
  const std::string name = "model.layers.1.self_attn.qkv_proj.weight";
  const auto whole = checkpoint.get(name);
  std::mt19937 random(3);
  for (int i = 0; i < 20; ++i) {
    const std::int64_t row = random() % 256, n_rows = 1 + random() % (256 - row);
    const std::int64_t column = random() % 128, n_columns = 1 + random() % (128 - column);
    std::vector<std::byte> storage;
    const auto part = checkpoint.get(
        columns_name(rows_name(name, {row, n_rows, 256}), {column, n_columns, 128}), storage);
    ASSERT_THAT(part.shape, ElementsAre(n_rows, n_columns));
    ASSERT_EQ(part.bytes.size(), std::size_t(n_rows * n_columns * 2));
    for (std::int64_t r = 0; r < n_rows; ++r)
      ASSERT_TRUE(std::ranges::equal(
          part.bytes.subspan(std::size_t(r * n_columns * 2), std::size_t(n_columns * 2)),
          whole.bytes.subspan(std::size_t(((row + r) * 128 + column) * 2),
                              std::size_t(n_columns * 2))));
  }
  std::vector<std::byte> storage;
  EXPECT_THROW(checkpoint.get(columns_name(name, {0, 64, 256}), storage), Error);
  EXPECT_EQ(checkpoint.dtype_of(columns_name(name, {0, 64, 128})), whole.dtype);
}

TEST(StoredName, SaysWhereAWeightLies) {
  const std::string rows = rows_name("a.b.weight", {3, 4, 9});
  EXPECT_EQ(stored_name(rows).tensor, "a.b.weight");
  EXPECT_EQ(stored_name(rows).rows->begin, 3);
  EXPECT_EQ(stored_name(rows).rows->count, 4);
  EXPECT_EQ(stored_name(rows).rows->n_stored, 9);
  EXPECT_EQ(stored_name(rows).part, StoredPart::value);
  for (const auto part :
       {StoredPart::one_plus, StoredPart::scale, StoredPart::zero, StoredPart::order}) {
    const std::string factor = part_name(part, "a.norm.weight");
    EXPECT_EQ(stored_name(factor).tensor, "a.norm.weight");
    EXPECT_EQ(stored_name(factor).part, part);
    EXPECT_FALSE(stored_name(factor).rows);
    EXPECT_EQ(stored_name(part_name(part, rows)).rows->begin, 3);
  }
  const auto part = columns_name(rows, {8, 2, 16});
  const auto columns = stored_name(part);
  EXPECT_EQ(columns.tensor, "a.b.weight");
  EXPECT_EQ(columns.rows->begin, 3);
  EXPECT_EQ(columns.columns->begin, 8);
  EXPECT_EQ(columns.columns->n_stored, 16);
  EXPECT_FALSE(stored_name(columns_name("a.b.weight", {8, 2, 16})).rows);
  // A tensor of a strange name is that tensor.
  for (const char* name : {"x.rows.", "x.rows.1.2", "x.rows.1.2.x", "x.rows.-1.2.3", "x.rows.2.2.3",
                           "x.rows.99999999999999999999.1.2"}) {
    EXPECT_EQ(stored_name(name).tensor, name);
    EXPECT_FALSE(stored_name(name).rows);
  }
}

TEST_F(CheckpointFolder, TensorsOfOtherTypesMatterOnlyWhereNeeded) {
  write("model.safetensors", file_of({{"a", "F64", {2}, 16},
                                      {"b", "U32", {3}, 12},
                                      {"c", "F8_E4M3", {5}, 5},
                                      {"d", "F4", {4}, 2},
                                      {"e", "X7_OF_TOMORROW", {2, 2}, 3},
                                      {"f", "F8_E5M2", {0, 4}, 0},
                                      {"g", "I64", {1}, 8},
                                      {"w", "BF16", {2}, 4},
                                      {"z", "F32", {0}, 0}}));
  const auto checkpoint = Checkpoint::open(path_);
  EXPECT_EQ(checkpoint.get("w").dtype, DType::bf16);
  EXPECT_EQ(checkpoint.get("z").bytes.size(), 0u);
  EXPECT_EQ(checkpoint.n_tensors(), 9u);
  for (const auto& [name, type] : std::vector<std::pair<std::string, std::string>>{
           {"a", "F64"}, {"b", "U32"}, {"c", "F8_E4M3"}, {"e", "X7_OF_TOMORROW"}, {"g", "I64"}})
    EXPECT_THAT(
        error_of(name),
        AllOf(HasSubstr("model.safetensors: tensor " + name + " has the type"), HasSubstr(type),
              HasSubstr("may be F32, F16 or BF16"), Not(HasSubstr("damaged"))));
}

TEST_F(CheckpointFolder, ShardsMatterOnlyWhereNeeded) {
  write("a.safetensors", file_of({{"x", "F16", {2}, 4}}));
  write("page.safetensors", "<html><body>Forbidden</body></html>");
  write_index({{"x", "a.safetensors"}, {"y", "b.safetensors"}, {"z", "page.safetensors"}});
  EXPECT_EQ(error_of("x"), "no error");
  EXPECT_THAT(error_of("y"),
              AllOf(HasSubstr("tensor y is needed"), HasSubstr("b.safetensors not found"),
                    HasSubstr("download it too")));
  EXPECT_THAT(error_of("z"), AllOf(HasSubstr("tensor z is needed"), HasSubstr("page.safetensors"),
                                   HasSubstr("a web page")));
  // As a cache of which a part was removed.
  std::filesystem::create_symlink("../blobs/123", path_ / "b.safetensors");
  EXPECT_THAT(error_of("y"), HasSubstr("is a link to ../blobs/123, which is not there"));
}

TEST_F(CheckpointFolder, FindsTensorsThatTheIndexMisplaces) {
  write("a.safetensors",
        file_of({{"x", "F16", {2}, 4}, {"y", "F16", {1}, 2}, {"z", "F16", {3}, 6}}));
  write("b.safetensors", file_of({{"y", "F16", {2}, 4}}));
  write_index({{"x", "b.safetensors"}, {"y", "b.safetensors"}, {"w", "a.safetensors"}});
  const auto checkpoint = Checkpoint::open(path_);
  EXPECT_THAT(checkpoint.get("x").shape, ElementsAre(2));  // elsewhere
  EXPECT_THAT(checkpoint.get("y").shape, ElementsAre(2));  // in both: where the index says
  EXPECT_THAT(checkpoint.get("z").shape, ElementsAre(3));  // not in the index
  EXPECT_THAT(error_of("w"), AllOf(HasSubstr("a.safetensors: tensor w is not in this file"),
                                   HasSubstr("download both again")));
}

TEST_F(CheckpointFolder, NamesOfBaseModelsAndOfTraining) {
  write("model.safetensors",
        file_of({{"norm.weight", "F16", {2}, 4}, {"module.model.x.weight", "F16", {1}, 2}}));
  EXPECT_EQ(error_of("model.norm.weight"), "no error");
  EXPECT_THAT(error_of("norm.bias"), HasSubstr("not found"));
  EXPECT_THAT(error_of("model.x.weight"),
              AllOf(HasSubstr("\"module.model.x.weight\""), HasSubstr("a prefix more")));
  EXPECT_THAT(error_of("lm_head.weight"),
              AllOf(HasSubstr("base model"), HasSubstr("\"tie_word_embeddings\": true")));
}

// Programs that store a shared tensor once may keep either of its names.
TEST_F(CheckpointFolder, ATiedHeadHasTwoNames) {
  constexpr const char* kEmbedding = "model.embed_tokens.weight";
  write("model.safetensors", file_of({{"lm_head.weight", "F16", {2}, 4}}));
  EXPECT_THAT(Checkpoint::open(path_, true).get(kEmbedding).shape, ElementsAre(2));
  EXPECT_THAT(error_of(kEmbedding), HasSubstr("not found"));
  write("model.safetensors",
        file_of({{"lm_head.weight", "F16", {2}, 4}, {kEmbedding, "F16", {3}, 6}}));
  EXPECT_THAT(Checkpoint::open(path_, true).get(kEmbedding).shape, ElementsAre(3));
}

TEST_F(CheckpointFolder, OneFileCountsBeforeTheIndex) {
  write("model.safetensors", file_of({{"x", "F16", {2}, 4}}));
  write("a.safetensors", file_of({{"x", "F16", {1}, 2}, {"y", "F16", {1}, 2}}));
  write_index({{"x", "a.safetensors"}, {"y", "a.safetensors"}});
  EXPECT_THAT(Checkpoint::open(path_).get("x").shape, ElementsAre(2));
  EXPECT_THAT(error_of("y"), HasSubstr("model.safetensors.index.json is not read where"));
}

TEST_F(CheckpointFolder, WhatLiesInPlaceOfWeightsIsNamed) {
  struct Row {
    std::string content;
    const char* message;
  };
  const std::string good = file_of({{"x", "F16", {200}, 400}});
  for (const auto& [content, message] :
       {Row{"", "is empty"},
        Row{"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 4976698672\n",
            "a git-lfs pointer, not the file of 4976698672 bytes itself; run `git lfs pull`"},
        Row{"\n <!DOCTYPE HTML><html lang=\"en\">", "a web page"},
        Row{"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "a web page"},
        Row{"Entry not found", "a text, not tensors: it begins with \"Entry not found\""},
        Row{"{\"error\":\"Repository not found\"}", "a text, not tensors"},
        Row{std::string(5000, '\0'), "begins with zeros"},
        Row{good.substr(0, 6), "was not finished"}, Row{good.substr(0, 20), "was not finished"},
        Row{good.substr(0, 300), "was not finished"},
        Row{"GGUF\x03" + std::string(100, '\0'), "a GGUF file"},
        Row{"PK\x03\x04" + std::string(100, '\0'), "a PyTorch checkpoint"},
        Row{good + "x", "damaged"}}) {
    write("model.safetensors", content);
    const auto error = error_of();
    EXPECT_THAT(error, AllOf(HasSubstr("model.safetensors: "), HasSubstr(message)));
    EXPECT_EQ(error.find("damaged") != std::string::npos, message == std::string("damaged"));
  }
}

TEST_F(CheckpointFolder, OtherFormsOfWeightsAreNamedWithTheCure) {
  EXPECT_THAT(error_of(), AllOf(HasSubstr("neither model.safetensors nor"),
                                HasSubstr("expected a Hugging Face snapshot")));
  struct Row {
    const char* file;
    const char* message;
  };
  for (const auto& [file, message] :
       {Row{"pytorch_model-00001-of-00002.bin", "save_pretrained"},
        Row{"llama.Q4_K_M.gguf", "GGUF"}, Row{"adapter_model.safetensors", "merge_and_unload"},
        Row{"consolidated.safetensors", "model*.safetensors"},
        Row{"model-00001-of-00003.safetensors", "model.safetensors.index.json too"},
        Row{"weights.safetensors", "name it model.safetensors"},
        Row{"tf_model.h5", "TensorFlow"}}) {
    write(file, "x");
    EXPECT_THAT(error_of(),
                AllOf(HasSubstr(std::string("; ") + file + " is "), HasSubstr(message)));
    std::filesystem::remove(path_ / file);
  }
  write("training_args.bin", "x");
  EXPECT_THAT(error_of(), Not(HasSubstr("training_args")));
  std::filesystem::create_directories(path_ / "snapshots" / "abc");
  EXPECT_THAT(error_of(), HasSubstr("the Hugging Face cache"));
}

TEST_F(CheckpointFolder, ChecksTheIndex) {
  write("b.safetensors", file_of({{"y", "F16", {2}, 4}}));
  struct Row {
    const char* text;
    const char* message;
  };
  for (const Row& row :
       {Row{R"({"weight_map":{"x":"../a.safetensors"}})", "the name of a file beside the index"},
        Row{R"({"weight_map":{"x":"/etc/passwd"}})", "the name of a file beside the index"},
        Row{R"({"weight_map":{"x":".."}})", "the name of a file beside the index"},
        Row{R"({"weight_map":{"x":""}})", "the name of a file beside the index"},
        Row{R"({"weight_map":{"x":"\u001b[2J"}})", "\"\\u001b[2J\"; expected the name of a file"},
        Row{R"({"weight_map":{"x":7}})", "wrong type"}, Row{R"({"weight_map":{}})", "weight_map"},
        Row{R"({"weight_map":[]})", "weight_map"}, Row{R"({})", "\"weight_map\" is missing"},
        Row{R"(7)", "expected a JSON object"}, Row{R"({"weight_map":)", "ends in the middle"},
        Row{"", "is empty"}, Row{"<html>", "a web page"},
        Row{"Entry not found", "a text that begins with \"Entry not found\""}}) {
    write(kIndex, row.text);
    EXPECT_THAT(error_of(), AllOf(HasSubstr(kIndex), HasSubstr(row.message))) << row.text;
  }
}

}  // namespace
}  // namespace nereid::model
