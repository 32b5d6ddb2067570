#include "tokenizer/pattern.h"

#include "base/error.h"
#include "base/json.h"

namespace nereid::tokenizer {

Pattern::Pattern(const Json& config, const std::string& where) {
  const Json& pattern = json_member(config, "pattern", where);
  if (pattern.is_object() && pattern.contains("String")) {
    literal_ = json_field<std::string>(pattern, "String", where);
    if (literal_.empty()) throw Error("{}: the pattern is an empty string", where);
  } else {
    regex_ = std::make_unique<Regex>(json_field<std::string>(pattern, "Regex", where), where);
  }
}

Pattern Pattern::of_regex(std::string_view regex, const std::string& where) {
  Pattern pattern;
  pattern.regex_ = std::make_unique<Regex>(regex, where);
  return pattern;
}

void Pattern::spans(std::string_view text, std::vector<Span>& out) const {
  std::size_t begin = 0;
  const auto add = [&](std::size_t match_begin, std::size_t match_end) {
    if (begin < match_begin) out.push_back({begin, match_begin, false});
    out.push_back({match_begin, match_end, true});
    begin = match_end;
  };
  if (text.empty()) return;
  if (regex_) {
    Regex::Matches matches(*regex_, text);
    while (const auto match = matches.next()) add(match->begin, match->end);
  } else {
    for (std::size_t at = text.find(literal_); at != std::string_view::npos;
         at = text.find(literal_, at + literal_.size()))
      add(at, at + literal_.size());
  }
  if (begin < text.size()) out.push_back({begin, text.size(), false});
}

}  // namespace nereid::tokenizer
