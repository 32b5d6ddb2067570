// Goal: how much one Constraint may cost, so that no schema or pattern takes the machine.
// Non-goal: limits of time; every count here bounds work.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nereid::grammar {

struct Limits {
  std::size_t text_bytes = 1 << 20;  // schemas, patterns and choices, together
  std::size_t schema_depth = 64;     // nesting of the schema's own JSON
  std::size_t n_schemas = 20'000;    // subschemas
  std::size_t n_nodes = 20'000;      // places of an answer that are told apart
  std::size_t n_alternatives = 256;  // of one place, anyOf and oneOf multiplied out
  std::size_t n_total_alternatives = 20'000;
  std::size_t n_enum_values = 10'000;       // of one enum; choices
  std::size_t n_automaton_states = 20'000;  // of one regular expression or number
  std::size_t n_regex_nodes = 20'000;       // after repetitions are written out
  std::size_t n_total_states = 200'000;     // of all automata
  std::size_t answer_depth = 64;            // nesting of the answer's JSON
  std::size_t n_threads = 4'096;            // ways to read one text that are followed side by side
  std::size_t cache_bytes = 64 << 20;       // masks kept
};

}  // namespace nereid::grammar
