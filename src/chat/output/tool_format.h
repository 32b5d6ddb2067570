// Goal: how a family of models writes tool calls, as a row of a table: what begins and ends a call,
// whether calls stand in a list, what its two keys are called.
// Non-goal: the reading (output_parser.h); formats that are not JSON.
// Rejected: finding the marks by rendering the template and comparing. It finds formats nobody has
// looked at; a row that is read and tested is known to work, and the absence of one is said.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace nereid::chat {

enum class CallShape : std::uint8_t {
  none,    // the family writes no calls: all text is content
  object,  // {...} after each start
  list,    // [{...}, {...}] after a start
};

struct ToolFormat {
  std::string_view name;
  CallShape shape;
  std::array<std::string_view, 2> starts;  // any begins a call, or a list; the first is written
  std::string_view end;                    // after the call; read where it is there
  std::string_view padding;                // between start, JSON and end, as models write it
  char separator;                          // between two calls after one start; 0: each has its own
  std::string_view name_key;
  std::string_view arguments_key;
  // An answer that begins with the JSON itself is a call, too: the start may have been left out, or
  // be a special token, which is no part of the text.
  bool may_start_bare;
  std::string_view id_prefix;
  std::size_t n_id_letters;  // after the prefix
  // A template that contains one of these makes the model write this format.
  std::array<std::string_view, 2> template_signs;

  // The literal text around the arguments of calls, for a grammar that forces them:
  //   calls_prefix() (call_prefix(name) ARGUMENTS call_suffix()) / calls_separator() calls_suffix()
  std::string calls_prefix() const;
  std::string call_prefix(std::string_view function) const;
  std::string call_suffix() const;
  std::string calls_separator() const;
  std::string calls_suffix() const;
};

std::span<const ToolFormat> tool_formats();
// An Error names the formats there are.
const ToolFormat& tool_format(std::string_view name);
// By what the template writes; `none` where it writes no format of the table.
const ToolFormat& detect_tool_format(std::string_view template_source);

}  // namespace nereid::chat
