// Goal: the sources of a model's chat templates, and its special tokens, as its files name them.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "chat/chat_template.h"

namespace nereid::chat {

struct TemplateSource {
  std::string text;
  std::string where;  // what an Error calls it
};

// By name: "default", "tool_use" and others; empty where the model names none.
std::map<std::string, TemplateSource> find_templates(const std::filesystem::path& model_dir);

SpecialTokens read_special_tokens(const std::filesystem::path& model_dir);

}  // namespace nereid::chat
