#include "grammar/automaton.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"

namespace nereid::grammar {

std::uint32_t Automaton::next(std::uint32_t state, char32_t c) const {
  const auto row = edges(state);
  const auto found = std::lower_bound(row.begin(), row.end(), c,
                                      [](const Edge& edge, char32_t at) { return edge.last < at; });
  return found != row.end() && found->first <= c ? found->to : kDead;
}

bool Automaton::goes_on(std::uint32_t state, char32_t first, char32_t last) const {
  const auto row = edges(state);
  const auto found = std::lower_bound(row.begin(), row.end(), first,
                                      [](const Edge& edge, char32_t at) { return edge.last < at; });
  return found != row.end() && found->first <= last;
}

std::uint32_t Automaton::label_of(std::u32string_view text) const {
  std::uint32_t state = start_;
  for (const char32_t c : text) state = next(state, c);
  return labels_[state];
}

std::optional<std::vector<std::u32string>> Automaton::texts(std::size_t most) const {
  std::vector<std::u32string> found;
  std::vector<std::pair<std::uint32_t, std::u32string>> open;
  if (!is_empty()) open.emplace_back(start_, U"");
  std::size_t n_steps = 0;
  while (!open.empty()) {
    auto [state, text] = std::move(open.back());
    open.pop_back();
    // Every state reaches an end, so a text longer than the number of states means a loop.
    if (++n_steps > most * 64 || text.size() >= labels_.size()) return std::nullopt;
    if (labels_[state] != 0) found.push_back(text);
    for (const Edge& edge : edges(state)) {
      if (edge.last - edge.first >= most) return std::nullopt;
      for (char32_t c = edge.first; c <= edge.last; ++c) open.emplace_back(edge.to, text + c);
    }
    if (found.size() + open.size() > most) return std::nullopt;
  }
  return found;
}

AutomatonBuilder::AutomatonBuilder(std::size_t most_states, std::string what)
    : most_states_(most_states), what_(std::move(what)) {}

std::uint32_t AutomatonBuilder::add_state(std::uint32_t label) {
  if (labels_.size() > most_states_)
    throw Error("{} needs an automaton of more than {} states; make it simpler", what_,
                most_states_);
  labels_.push_back(label);
  edges_.emplace_back();
  return static_cast<std::uint32_t>(labels_.size() - 1);
}

void AutomatonBuilder::add_edge(std::uint32_t from, char32_t first, char32_t last,
                                std::uint32_t to) {
  // Halves of surrogate pairs are no characters: a text that needs one cannot be written.
  if (first < kFirstSurrogate && last >= kFirstSurrogate) {
    add_edge(from, first, kFirstSurrogate - 1, to);
    first = kFirstSurrogate;
  }
  if (first >= kFirstSurrogate && first <= kLastSurrogate) first = kLastSurrogate + 1;
  if (first > last) return;
  auto& row = edges_[from];
  if (!row.empty() && row.back().to == to && row.back().last + 1 == first)
    row.back().last = last;
  else
    row.push_back({first, last, to});
}

Automaton AutomatonBuilder::build(std::uint32_t start) {
  std::vector<std::vector<std::uint32_t>> before(labels_.size());
  for (std::uint32_t from = 1; from < labels_.size(); ++from)
    for (const auto& edge : edges_[from]) before[edge.to].push_back(from);
  std::vector<bool> lives(labels_.size());
  std::vector<std::uint32_t> open;
  for (std::uint32_t state = 1; state < labels_.size(); ++state) {
    if (labels_[state] == 0) continue;
    lives[state] = true;
    open.push_back(state);
  }
  while (!open.empty()) {
    const std::uint32_t state = open.back();
    open.pop_back();
    for (const std::uint32_t from : before[state]) {
      if (lives[from]) continue;
      lives[from] = true;
      open.push_back(from);
    }
  }

  std::vector<std::uint32_t> renamed(labels_.size(), Automaton::kDead);
  std::uint32_t n = 1;
  for (std::uint32_t state = 1; state < labels_.size(); ++state)
    if (lives[state]) renamed[state] = n++;
  Automaton out;
  out.start_ = renamed[start];
  for (std::uint32_t state = 1; state < labels_.size(); ++state) {
    if (!lives[state]) continue;
    out.labels_.push_back(labels_[state]);
    for (const auto& edge : edges_[state])
      if (lives[edge.to]) out.edges_.push_back({edge.first, edge.last, renamed[edge.to]});
    out.rows_.push_back(static_cast<std::uint32_t>(out.edges_.size()));
  }
  return out;
}

Automaton automaton_of_texts(std::span<const std::u32string> texts, std::size_t most_states,
                             const std::string& what) {
  AutomatonBuilder builder(most_states, what);
  std::vector<std::map<char32_t, std::uint32_t>> children(2);
  const std::uint32_t start = builder.add_state();
  for (const std::u32string& text : texts) {
    std::uint32_t state = start;
    for (const char32_t c : text) {
      std::uint32_t& child = children[state][c];
      const bool is_new = child == 0;
      if (is_new) child = builder.add_state();
      state = child;
      if (is_new) children.emplace_back();
    }
    builder.set_label(state, 1);
  }
  for (std::uint32_t state = start; state < children.size(); ++state)
    for (const auto& [c, child] : children[state]) builder.add_edge(state, c, c, child);
  return builder.build(start);
}

Automaton automaton_of_all() {
  AutomatonBuilder builder(1, "");
  const std::uint32_t start = builder.add_state(1);
  builder.add_edge(start, 0, kLastCharacter, start);
  return builder.build(start);
}

Automaton combine(std::span<const Automaton* const> parts, const LabelFunction& label,
                  std::size_t most_states, const std::string& what) {
  using Tuple = std::vector<std::uint32_t>;
  AutomatonBuilder builder(most_states, what);
  std::map<Tuple, std::uint32_t> known;
  std::vector<Tuple> open;
  const auto state_of = [&](const Tuple& tuple) {
    const auto [found, is_new] = known.try_emplace(tuple, 0);
    if (is_new) {
      Tuple labels;
      for (std::size_t i = 0; i < parts.size(); ++i) labels.push_back(parts[i]->label(tuple[i]));
      found->second = builder.add_state(label(labels));
      open.push_back(tuple);
    }
    return found->second;
  };
  Tuple first;
  for (const Automaton* part : parts) first.push_back(part->start());
  const std::uint32_t start = state_of(first);
  while (!open.empty()) {
    const Tuple tuple = open.back();
    open.pop_back();
    const std::uint32_t from = known.at(tuple);
    std::set<char32_t> begins = {0};
    for (std::size_t i = 0; i < parts.size(); ++i) {
      for (const auto& edge : parts[i]->edges(tuple[i])) {
        begins.insert(edge.first);
        begins.insert(edge.last + 1);
      }
    }
    for (auto at = begins.begin(); at != begins.end() && *at <= kLastCharacter; ++at) {
      const auto after = std::next(at);
      const char32_t last = after == begins.end() ? kLastCharacter : *after - 1;
      Tuple to;
      for (std::size_t i = 0; i < parts.size(); ++i) to.push_back(parts[i]->next(tuple[i], *at));
      builder.add_edge(from, *at, last, state_of(to));
    }
  }
  return builder.build(start);
}

}  // namespace nereid::grammar
