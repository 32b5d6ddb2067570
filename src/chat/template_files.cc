#include "chat/template_files.h"

#include "base/json.h"
#include "base/mapped_file.h"

namespace nereid::chat {

namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "tokenizer_config.json";

Json read_if_there(const fs::path& path) {
  return fs::exists(path) ? read_json_file(path) : Json();
}

// A token is written as a string, or as an object with its content.
std::string token_of(const Json& config, const char* key, const std::string& where) {
  if (!config.is_object() || !config.contains(key) || config[key].is_null()) return {};
  const Json& token = config[key];
  return token.is_object() ? json_field<std::string>(token, "content", where + ": " + key)
                           : json_field<std::string>(config, key, where);
}

}  // namespace

std::map<std::string, TemplateSource> find_templates(const fs::path& model_dir) {
  std::map<std::string, TemplateSource> found;
  const fs::path config_path = model_dir / kConfig;
  const Json config = read_if_there(config_path);
  if (config.is_object() && config.contains("chat_template")) {
    const Json& written = config["chat_template"];
    const std::string where = config_path.string() + ": chat_template";
    if (written.is_string()) {
      found["default"] = {written.get<std::string>(), where};
    } else if (written.is_array()) {
      for (const Json& row : written) {
        const auto name = json_field<std::string>(row, "name", where);
        found[name] = {json_field<std::string>(row, "template", where),
                       fmt::format("{} '{}'", where, name)};
      }
    } else if (!written.is_null()) {
      throw Error("{} is {}; expected a string or a list of templates", where, written.type_name());
    }
  }
  // A file goes before what the configuration says.
  const fs::path file = model_dir / "chat_template.jinja";
  if (fs::exists(file)) found["default"] = {read_text_file(file), file.string()};
  const fs::path more = model_dir / "additional_chat_templates";
  if (fs::is_directory(more))
    for (const auto& entry : fs::directory_iterator(more))
      if (entry.path().extension() == ".jinja")
        found[entry.path().stem().string()] = {read_text_file(entry.path()), entry.path().string()};
  return found;
}

SpecialTokens read_special_tokens(const fs::path& model_dir) {
  SpecialTokens tokens;
  for (const char* name : {kConfig, "special_tokens_map.json"}) {
    const fs::path path = model_dir / name;
    const Json config = read_if_there(path);
    if (tokens.bos.empty()) tokens.bos = token_of(config, "bos_token", path.string());
    if (tokens.eos.empty()) tokens.eos = token_of(config, "eos_token", path.string());
  }
  return tokens;
}

}  // namespace nereid::chat
