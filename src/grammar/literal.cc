#include "grammar/literal.h"

namespace nereid::grammar {

Automaton automaton_of_bytes(std::span<const std::string> texts, std::size_t most_states,
                             const std::string& what) {
  std::vector<std::u32string> wide;
  for (const std::string& text : texts) {
    std::u32string& bytes = wide.emplace_back();
    for (const char byte : text) bytes.push_back(static_cast<unsigned char>(byte));
  }
  return automaton_of_texts(wide, most_states, what);
}

WhiteSpace make_white_space(std::size_t most_depth) {
  const std::size_t most_blanks = kIndent * (most_depth + 1);
  AutomatonBuilder builder(7 * (most_depth + 1) + 8, "white space");
  const std::uint32_t ended = builder.add_state(1);
  // Behind a line's end: at most so many blanks, or tabs.
  std::vector<std::uint32_t> blanks = {ended};
  while (blanks.size() <= most_blanks) {
    blanks.push_back(builder.add_state(1));
    builder.add_edge(blanks.back(), ' ', ' ', blanks[blanks.size() - 2]);
  }
  std::vector<std::uint32_t> tabs = {ended};
  WhiteSpace out;
  std::vector<std::uint32_t> starts;
  for (std::size_t depth = 0; depth <= most_depth; ++depth) {
    const std::uint32_t tab = builder.add_state(1);
    builder.add_edge(tab, '\t', '\t', tabs.back());
    tabs.push_back(tab);
  }
  // The state behind a line's end takes either kind, so it is one of its own.
  for (std::size_t depth = 0; depth <= most_depth; ++depth) {
    const std::uint32_t line = builder.add_state(1);
    builder.add_edge(line, '\t', '\t', tabs[depth]);
    builder.add_edge(line, ' ', ' ', blanks[kIndent * (depth + 1) - 1]);
    const std::uint32_t start = builder.add_state();
    builder.add_edge(start, '\n', '\n', line);
    builder.add_edge(start, ' ', ' ', ended);
    starts.push_back(start);
  }
  // Every state accepts or goes on to one that does, so build() keeps their numbers.
  out.automaton = builder.build(starts[0]);
  out.starts = std::move(starts);
  return out;
}

}  // namespace nereid::grammar
