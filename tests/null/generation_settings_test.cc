#include "model/generation_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mapped_file.h"

namespace nereid::model {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class GenerationFiles : public testing::Test {
 protected:
  GenerationFiles()
      : path_(std::filesystem::path(testing::TempDir()) /
              fmt::format("nereid_generation_{}_{}", ::getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(path_);
  }
  ~GenerationFiles() override { std::filesystem::remove_all(path_); }

  void write(const std::string& name, const Json& json) const {
    write_text_file(path_ / name, json.dump());
  }
  GenerationSettings read(const Json& config) const {
    return read_generation_settings(path_, config);
  }

  std::filesystem::path path_;
};

TEST_F(GenerationFiles, TheFirstFileThatNamesEndTokensCounts) {
  EXPECT_THAT(read(Json::object()).eos_source, IsEmpty());

  write("special_tokens_map.json", {{"eos_token", "</s>"}});
  EXPECT_EQ(read(Json::object()).eos_token, "</s>");
  EXPECT_EQ(read(Json::object()).eos_source, "special_tokens_map.json");

  write("tokenizer_config.json", {{"eos_token", {{"content", "<|end|>"}, {"lstrip", false}}}});
  EXPECT_EQ(read(Json::object()).eos_token, "<|end|>");
  EXPECT_EQ(read(Json::object()).eos_source, "tokenizer_config.json");

  const Json config{{"eos_token_id", {7, 3, 7}}};
  auto settings = read(config);
  EXPECT_THAT(settings.eos_ids, ElementsAre(3, 7));
  EXPECT_EQ(settings.eos_source, "config.json");
  EXPECT_EQ(settings.eos_token, "");

  write("generation_config.json", {{"eos_token_id", 9}});
  settings = read(config);
  EXPECT_THAT(settings.eos_ids, ElementsAre(9));
  EXPECT_EQ(settings.eos_source, "generation_config.json");
}

TEST_F(GenerationFiles, NoIdIsNotAnId) {
  for (const Json& none : {Json(), Json(-1), Json(-1.0), Json::array(), Json{-1}}) {
    write("generation_config.json", {{"eos_token_id", none}});
    EXPECT_THAT(read({{"eos_token_id", 5.0}}).eos_ids, ElementsAre(5)) << none;
    EXPECT_THAT(read({{"eos_token_id", none}}).eos_ids, IsEmpty()) << none;
  }
  for (const Json& wrong : {Json("</s>"), Json(1.5), Json(4294967296), Json{1, "x"}, Json(true)}) {
    write("generation_config.json", {{"eos_token_id", wrong}});
    try {
      read(Json::object());
      FAIL() << wrong;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(),
                  AllOf(HasSubstr("generation_config.json: field \"eos_token_id\" = "),
                        HasSubstr("expected a token id, or a list of them")));
    }
  }
}

TEST_F(GenerationFiles, SuggestionsEachFromTheFirstFileThatHasIt) {
  write("generation_config.json", {{"temperature", 0.6}, {"top_p", nullptr}, {"top_k", 20}});
  const auto settings = read({{"temperature", 1.0}, {"top_p", 0.9}, {"num_beams", 4}});
  std::vector<std::string> found;
  for (const auto& [name, value, source] : settings.sampling)
    found.push_back(name + " " + value + " " + source);
  EXPECT_THAT(found, ElementsAre("temperature 0.6 generation_config.json",
                                 "top_k 20 generation_config.json", "top_p 0.9 config.json"));
}

TEST_F(GenerationFiles, AnotherFileInPlaceIsNamed) {
  write_text_file(path_ / "generation_config.json", "<!DOCTYPE html><title>Sign in</title>");
  try {
    read(Json::object());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("generation_config.json"), HasSubstr("a web page")));
  }
}

}  // namespace
}  // namespace nereid::model
