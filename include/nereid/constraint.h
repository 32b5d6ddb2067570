// Goal: what the text of an answer must be: JSON, JSON after a schema, a regular expression, one of
// several texts, or calls of tools.
// Non-goal: how a chat template writes calls; the caller gives the literals around each.
// Rejected: a grammar language (GBNF, EBNF) as the one form. Every caller has a schema or a pattern
// in its hands, and whoever translates one into rules must know how the rules are matched.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nereid {

struct Constraint {
  enum class Kind : std::uint8_t { none, json_object, json_schema, regex, choice, tool_calls };
  // One call that may be made: a literal, JSON after a schema, a literal.
  struct Call {
    std::string prefix = {};
    std::string schema = {};  // JSON Schema of the arguments
    std::string suffix = {};
  };

  Kind kind = Kind::none;
  std::string text = {};                  // json_schema: the schema; regex: the pattern
  std::vector<std::string> choices = {};  // choice
  // tool_calls: `before`, then one to `max_calls` calls with `between` them, then `after`.
  std::vector<Call> calls = {};
  std::string before = {};
  std::string between = {};
  std::string after = {};
  std::int32_t max_calls = 1;
};

}  // namespace nereid
