// Goal: exact bytes, and the white space between JSON's tokens, as automata over bytes.
// Non-goal: blanks without end. Between two tokens stands nothing, a blank, or a line's end and
// blanks up to what an indentation of kIndent a level takes: a model cannot print blanks for ever.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "grammar/automaton.h"

namespace nereid::grammar {

inline constexpr std::size_t kIndent = 4;

// One of these texts.
Automaton automaton_of_bytes(std::span<const std::string> texts, std::size_t most_states,
                             const std::string& what);

struct WhiteSpace {
  Automaton automaton;
  std::vector<std::uint32_t> starts;  // by depth: where white space at that depth begins
};
WhiteSpace make_white_space(std::size_t most_depth);

}  // namespace nereid::grammar
