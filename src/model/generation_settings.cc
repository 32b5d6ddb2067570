#include "model/generation_settings.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/error.h"
#include "base/json.h"
#include "model/config_fields.h"

namespace nereid::model {

namespace {

constexpr const char* kGeneration = "generation_config.json";
constexpr const char* kConfig = "config.json";
constexpr const char* kTokenizer = "tokenizer_config.json";
constexpr const char* kSpecialTokens = "special_tokens_map.json";

constexpr std::array<const char*, 6> kSamplingFields{
    {"do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"}};

const Json* field_of(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

// One id, or a list of them. A negative one is how some programs write that there is none.
std::vector<std::int32_t> ids_of(const Json& object, const std::string& where) {
  std::vector<std::int32_t> ids;
  const Json* value = field_of(object, "eos_token_id");
  if (value == nullptr) return ids;
  const auto add = [&](const Json& json) {
    const auto id = whole_number(json);
    if (!id || *id > std::numeric_limits<std::int32_t>::max())
      throw Error("{}: field \"eos_token_id\" = {}: expected a token id, or a list of them", where,
                  json_excerpt(json));
    if (*id >= 0) ids.push_back(std::int32_t(*id));
  };
  if (value->is_array())
    for (const Json& id : *value) add(id);
  else
    add(*value);
  std::ranges::sort(ids);
  const auto repeated = std::ranges::unique(ids);
  ids.erase(repeated.begin(), repeated.end());
  return ids;
}

// A token is its text, or an object that says more of it.
std::string token_of(const Json& object) {
  const Json* token = field_of(object, "eos_token");
  if (token != nullptr && token->is_object()) token = field_of(*token, "content");
  return token != nullptr && token->is_string() ? token->get<std::string>() : std::string();
}

Json read_if_there(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? read_json_file(path) : Json();
}

}  // namespace

GenerationSettings read_generation_settings(const std::filesystem::path& model_dir,
                                            const Json& config) {
  GenerationSettings settings;
  const auto add = [&](const char* name, const Json& json) {
    if (settings.eos_ids.empty()) {
      settings.eos_ids = ids_of(json, (model_dir / name).string());
      if (!settings.eos_ids.empty()) settings.eos_source = name;
    }
    for (const char* field : kSamplingFields) {
      const Json* value = field_of(json, field);
      const auto known =
          std::ranges::find(settings.sampling, field, &GenerationSettings::Suggestion::name);
      if (value != nullptr && known == settings.sampling.end())
        settings.sampling.push_back({field, json_excerpt(*value), name});
    }
  };
  add(kGeneration, read_if_there(model_dir / kGeneration));
  add(kConfig, config);
  // The tokenizer's files may be large, and are wanted for one thing only.
  for (const char* name : {kTokenizer, kSpecialTokens}) {
    if (!settings.eos_source.empty()) break;
    settings.eos_token = token_of(read_if_there(model_dir / name));
    if (!settings.eos_token.empty()) settings.eos_source = name;
  }
  return settings;
}

}  // namespace nereid::model
