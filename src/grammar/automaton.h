// Goal: deterministic automata over characters (or bytes, as characters below 256) whose accepting
// states carry a label, and what makes them from one another.
// Non-goal: the fewest states; a limit bounds them.
// Rejected: a dense table of states and classes of characters. An enum of Chinese names has
// thousands of classes, nearly all dead in nearly all states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nereid::grammar {

inline constexpr char32_t kLastCharacter = 0x10FFFF;
inline constexpr char32_t kFirstSurrogate = 0xD800;
inline constexpr char32_t kLastSurrogate = 0xDFFF;

class Automaton {
 public:
  static constexpr std::uint32_t kDead = 0;

  std::uint32_t start() const { return start_; }
  // The state after `c`; kDead where no accepting state could be reached any more.
  std::uint32_t next(std::uint32_t state, char32_t c) const;
  // Whether any character of [first, last] goes on.
  bool goes_on(std::uint32_t state, char32_t first, char32_t last) const;
  bool goes_on(std::uint32_t state) const { return rows_[state] != rows_[state + 1]; }
  std::uint32_t label(std::uint32_t state) const { return labels_[state]; }  // 0: not accepting
  bool is_empty() const { return start_ == kDead; }
  std::size_t n_states() const { return labels_.size(); }

  std::uint32_t label_of(std::u32string_view text) const;

  // All texts, where there are at most `most`; none where there are more.
  std::optional<std::vector<std::u32string>> texts(std::size_t most) const;

  struct Edge {
    char32_t first;
    char32_t last;
    std::uint32_t to;
  };
  std::span<const Edge> edges(std::uint32_t state) const {
    return std::span(edges_).subspan(rows_[state], rows_[state + 1] - rows_[state]);
  }

 private:
  friend class AutomatonBuilder;
  std::uint32_t start_ = kDead;
  std::vector<Edge> edges_;  // of each state in order, sorted
  std::vector<std::uint32_t> rows_ = {0, 0};
  std::vector<std::uint32_t> labels_ = {0};
};

class AutomatonBuilder {
 public:
  // `what` is what an Error calls the thing that has more than `most_states`.
  AutomatonBuilder(std::size_t most_states, std::string what);

  std::uint32_t add_state(std::uint32_t label = 0);
  void set_label(std::uint32_t state, std::uint32_t label) { labels_[state] = label; }
  // The ranges of one state do not overlap and come in order.
  void add_edge(std::uint32_t from, char32_t first, char32_t last, std::uint32_t to);
  // Without the states from which no accepting one is reached.
  Automaton build(std::uint32_t start);

 private:
  std::size_t most_states_;
  std::string what_;
  std::vector<std::uint32_t> labels_ = {0};
  std::vector<std::vector<Automaton::Edge>> edges_ = {{}};
};

// Exactly these texts, label 1.
Automaton automaton_of_texts(std::span<const std::u32string> texts, std::size_t most_states,
                             const std::string& what);
// Every text, label 1.
Automaton automaton_of_all();

// Runs all of `parts` side by side; `label` makes one label of theirs (0: not in that part).
using LabelFunction = std::function<std::uint32_t(std::span<const std::uint32_t>)>;
Automaton combine(std::span<const Automaton* const> parts, const LabelFunction& label,
                  std::size_t most_states, const std::string& what);

}  // namespace nereid::grammar
