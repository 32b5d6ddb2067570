// Goal: how a model's makers say that text is generated from it: the tokens that end it, and the
// sampling that they suggest. Each setting counts from the first file that names it, in the order
// generation_config.json, config.json, tokenizer_config.json, special_tokens_map.json.
// Non-goal: using the suggestions. What a request says holds, and its defaults are greedy; a server
// starts from them (ModelInfo::suggested_sampling).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json_fwd.h"

namespace nereid::model {

struct GenerationSettings {
  std::vector<std::int32_t> eos_ids;  // ascending
  // Where no file names ids: the end token's text, for a tokenizer to look up; may be empty.
  std::string eos_token;
  std::string eos_source;  // the file's name; empty where none names an end

  struct Suggestion {
    std::string name;   // "temperature"
    std::string value;  // as the file has it
    std::string source;
  };
  std::vector<Suggestion> sampling;
};

// Of the files in `model_dir`; `config` is its config.json. An Error names file and field.
GenerationSettings read_generation_settings(const std::filesystem::path& model_dir,
                                            const Json& config);

}  // namespace nereid::model
