// Goal: how a family of models marks what it thinks before it answers, as a row of a table.
// Non-goal: the reading (output_parser.h); asking a model to think, which its template does.
// Rejected: one optional mark for all. A model that writes about `<think>` is not thinking.
#pragma once

#include <span>
#include <string_view>

namespace nereid::chat {

struct ReasoningFormat {
  std::string_view name;
  std::string_view start;  // empty: the family marks none
  std::string_view end;

  // The prompt ends with the start: the answer begins inside the reasoning.
  bool is_opened_by(std::string_view prompt) const;
};

std::span<const ReasoningFormat> reasoning_formats();
// An Error names the formats there are.
const ReasoningFormat& reasoning_format(std::string_view name);
// By what the template writes; `none` where it writes no format of the table.
const ReasoningFormat& detect_reasoning_format(std::string_view template_source);

}  // namespace nereid::chat
