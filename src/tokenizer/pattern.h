// Goal: the field "pattern" of tokenizer.json, {"String": ...} or {"Regex": ...}, as spans of a
// text; and small helpers that the component tables share.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "tokenizer/regex.h"
#include "tokenizer/split.h"

namespace nereid::tokenizer {

class Pattern {
 public:
  // Reads config["pattern"].
  Pattern(const Json& config, const std::string& where);
  // GPT-2's or another built-in regular expression.
  static Pattern of_regex(std::string_view regex, const std::string& where);

  // Appends the spans of `text`; nothing for an empty text.
  void spans(std::string_view text, std::vector<Span>& out) const;

  // The string sought, empty where it is a regular expression.
  const std::string& literal() const { return literal_; }

 private:
  Pattern() = default;

  std::string literal_;
  std::unique_ptr<const Regex> regex_;
};

// "A, B or C" from a table whose rows have a `type`.
template <typename Table>
std::string names_of_types(const Table& rows) {
  std::string names;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i > 0) names += i + 1 == rows.size() ? " or " : ", ";
    names += rows[i].type;
  }
  return names;
}

}  // namespace nereid::tokenizer
