#include "grammar/mask.h"

#include <map>
#include <utility>

namespace nereid::grammar {

namespace {

void set_bit(std::span<std::uint32_t> words, TokenId id) {
  words[static_cast<std::size_t>(id) / 32] |= 1U << (static_cast<std::size_t>(id) % 32);
}

TerminalMask walk_terminal(const Vocabulary& vocabulary, const Terminal& terminal,
                           Terminal::State start, bool is_last) {
  TerminalMask out;
  std::vector<std::pair<std::uint32_t, Terminal::State>> path;  // a subtree's end, the state in it
  Terminal::State state = start;
  for (std::uint32_t node = 1; node < vocabulary.n_nodes();) {
    while (!path.empty() && path.back().first <= node) path.pop_back();
    state = terminal.step(path.empty() ? start : path.back().second, vocabulary.node(node).byte);
    const std::uint32_t end = vocabulary.node(node).end;
    if (state == Terminal::kDead) {
      node = end;
      continue;
    }
    const bool goes_on = terminal.goes_on(state);
    if (terminal.label(state) != 0 && (!goes_on || (end > node + 1 && !is_last)))
      out.exits.push_back({node, static_cast<std::uint32_t>(path.size() + 1), state});
    if (goes_on)
      for (const TokenId id : vocabulary.ids_at(node)) out.ids.push_back(id);
    if (goes_on && end > node + 1) {
      path.emplace_back(end, state);
      ++node;
    } else {
      node = end;
    }
  }
  const std::size_t n_words = (vocabulary.n_tokens() + 31) / 32;
  if (out.ids.size() > n_words) {
    out.words.resize(n_words);
    for (const TokenId id : out.ids) set_bit(out.words, id);
    out.ids = {};
  }
  out.ids.shrink_to_fit();
  out.exits.shrink_to_fit();
  return out;
}

// What follows an exit, through the exit's subtree of the trie.
class ExitWalk {
 public:
  ExitWalk(const Program& program, const Vocabulary& vocabulary, std::string& text,
           std::span<std::uint32_t> words)
      : stepper_(program), vocabulary_(vocabulary), text_(text), words_(words) {}

  void walk(std::uint32_t exit, const Threads& threads) {
    if (threads.is_complete || !threads.list.empty()) allow(exit);
    const std::uint32_t last = vocabulary_.node(exit).end;
    const std::size_t size_before = text_.size();
    levels_.clear();
    const auto at_level = [&](std::size_t i) -> const Threads& {
      return i == 0 ? threads : stack_[i - 1];
    };
    for (std::uint32_t node = exit + 1; node < last;) {
      while (!levels_.empty() && levels_.back() <= node) levels_.pop_back();
      const Threads& from = at_level(levels_.size());
      if (from.list.empty()) {
        node = levels_.empty() ? last : levels_.back();
        continue;
      }
      if (stack_.size() <= levels_.size()) stack_.resize(levels_.size() + 8);
      text_.resize(size_before + levels_.size());
      text_.push_back(static_cast<char>(vocabulary_.node(node).byte));
      Threads& to = stack_[levels_.size()];
      stepper_.step(at_level(levels_.size()), text_, to);
      const std::uint32_t end = vocabulary_.node(node).end;
      if (to.is_complete || !to.list.empty()) allow(node);
      if (!to.list.empty() && end > node + 1) {
        levels_.push_back(end);
        ++node;
      } else {
        node = end;
      }
    }
    text_.resize(size_before);
  }

 private:
  void allow(std::uint32_t node) {
    for (const TokenId id : vocabulary_.ids_at(node)) set_bit(words_, id);
  }

  Stepper stepper_;
  const Vocabulary& vocabulary_;
  std::string& text_;
  std::span<std::uint32_t> words_;
  std::vector<std::uint32_t> levels_;  // the ends of the subtrees around
  std::vector<Threads> stack_;
};

}  // namespace

std::shared_ptr<const TerminalMask> MaskCache::get(const Program& program, TerminalId terminal,
                                                   Terminal::State state, bool is_last) const {
  const Terminal& machine = program.terminals[terminal];
  const Key key = {terminal, machine.mask_key(state, vocabulary_->longest_bytes()), is_last};
  {
    const std::lock_guard lock(mutex_);
    const auto found = masks_.find(key);
    if (found != masks_.end()) return found->second;
  }
  auto made =
      std::make_shared<const TerminalMask>(walk_terminal(*vocabulary_, machine, state, is_last));
  const std::lock_guard lock(mutex_);
  if (n_bytes_ + made->size_bytes() > most_bytes_) {
    masks_.clear();
    n_bytes_ = 0;
  }
  if (masks_.emplace(key, made).second) n_bytes_ += made->size_bytes();
  return made;
}

void add_allowed_tokens(const Program& program, const MaskCache& cache, const Threads& threads,
                        std::string& text, std::span<std::uint32_t> words) {
  const Vocabulary& vocabulary = cache.vocabulary();
  const Stepper stepper(program);
  ExitWalk exit_walk(program, vocabulary, text, words);
  for (const Thread& thread : threads.list) {
    const bool is_last = thread.role == Role::whole || thread.role == Role::after;
    const auto mask = cache.get(program, thread.terminal, thread.state, is_last);
    for (const TokenId id : mask->ids) set_bit(words, id);
    for (std::size_t i = 0; i < mask->words.size(); ++i) words[i] |= mask->words[i];
    if (is_last) {
      for (const TerminalMask::Exit& exit : mask->exits)
        for (const TokenId id : vocabulary.ids_at(exit.node)) set_bit(words, id);
      continue;
    }
    // Behind a name that is no property's it matters which one it is; else only how the terminal
    // ended.
    std::map<std::uint32_t, Threads> known;
    for (const TerminalMask::Exit& exit : mask->exits) {
      const std::uint32_t label = program.terminals[thread.terminal].label(exit.state);
      const std::size_t size_before = text.size();
      if (thread.role == Role::other) {
        text += vocabulary.path_to(exit.node, exit.depth);
        Threads after;
        stepper.finish(thread, exit.state, text, after);
        exit_walk.walk(exit.node, after);
        text.resize(size_before);
        continue;
      }
      const auto [found, is_new] = known.try_emplace(label);
      if (is_new) stepper.finish(thread, exit.state, text, found->second);
      exit_walk.walk(exit.node, found->second);
    }
  }
}

}  // namespace nereid::grammar
