// Goal: the patterns by which a quantization_config names modules.
// Non-goal: patterns over long texts (tokenizer/regex.h).
// Rejected: std::regex. A pattern out of a file may make it run for ever.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace nereid::model {

class NamePattern {
 public:
  // "lm_head", "model.layers.0.mlp": a module, or all within it, wherever that part of a name
  // stands; or "re:...", a regular expression that a name begins with. An Error names `where`.
  NamePattern(const std::string& text, const std::string& where);

  // An Error where the expression takes unreasonably long.
  bool matches(std::string_view module) const;

 private:
  struct Code;
  std::string text_;
  std::shared_ptr<const Code> code_;  // null: no regular expression
};

}  // namespace nereid::model
