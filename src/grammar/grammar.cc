#include "grammar/grammar.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "grammar/mask.h"

namespace nereid::grammar {

class Grammar {
 public:
  Grammar(Program program, std::shared_ptr<const Vocabulary> vocabulary, std::size_t cache_bytes)
      : program_(std::move(program)), masks_(std::move(vocabulary), cache_bytes) {}

  const Program& program() const { return program_; }
  const MaskCache& masks() const { return masks_; }
  const Vocabulary& vocabulary() const { return masks_.vocabulary(); }

 private:
  Program program_;
  MaskCache masks_;
};

std::shared_ptr<const Grammar> compile(const Constraint& constraint,
                                       std::shared_ptr<const Vocabulary> vocabulary,
                                       const Limits& limits) {
  return std::make_shared<const Grammar>(make_program(constraint, limits), std::move(vocabulary),
                                         limits.cache_bytes);
}

struct Matcher::State {
  std::shared_ptr<const Grammar> grammar;
  std::vector<TokenId> end_ids;
  Threads threads;
  Threads next;      // scratch of accept
  std::string text;  // of the answer so far
  bool has_ended = false;

  bool is_end(TokenId id) const {
    return std::find(end_ids.begin(), end_ids.end(), id) != end_ids.end();
  }
};

Matcher::Matcher(std::shared_ptr<const Grammar> grammar, std::span<const TokenId> end_ids)
    : state_(std::make_unique<State>()) {
  state_->grammar = std::move(grammar);
  state_->end_ids.assign(end_ids.begin(), end_ids.end());
  state_->threads = Stepper(state_->grammar->program()).begin();
}
Matcher::~Matcher() = default;
Matcher::Matcher(const Matcher& other) : state_(std::make_unique<State>(*other.state_)) {}
Matcher& Matcher::operator=(const Matcher& other) {
  if (this != &other) state_ = std::make_unique<State>(*other.state_);
  return *this;
}
Matcher::Matcher(Matcher&&) noexcept = default;
Matcher& Matcher::operator=(Matcher&&) noexcept = default;

bool Matcher::accept(TokenId id) {
  if (state_->is_end(id)) {
    if (!is_complete()) return false;
    state_->has_ended = true;
    return true;
  }
  const std::string_view bytes = state_->grammar->vocabulary().text(id);
  return !bytes.empty() && accept_bytes(bytes);
}

bool Matcher::accept_bytes(std::string_view bytes) {
  State& state = *state_;
  if (state.has_ended) return false;
  const Stepper stepper(state.grammar->program());
  const std::size_t size_before = state.text.size();
  Threads now = state.threads;
  for (const char byte : bytes) {
    state.text.push_back(byte);
    stepper.step(now, state.text, state.next);
    std::swap(now, state.next);
    if (now.list.empty() && !now.is_complete) {
      state.text.resize(size_before);
      return false;
    }
  }
  state.threads = std::move(now);
  return true;
}

void Matcher::fill_mask(std::span<std::uint32_t> words) const {
  State& state = *state_;
  const Grammar& grammar = *state.grammar;
  NEREID_CHECK(words.size() >= (grammar.vocabulary().n_tokens() + 31) / 32,
               "{} words for {} tokens", words.size(), grammar.vocabulary().n_tokens());
  std::fill(words.begin(), words.end(), 0);
  if (!state.has_ended)
    add_allowed_tokens(grammar.program(), grammar.masks(), state.threads, state.text, words);
  // An end token may have a text of its own in the vocabulary, which is not what it stands for.
  for (const TokenId id : state.end_ids) {
    const auto at = static_cast<std::size_t>(id);
    if (id < 0 || at / 32 >= words.size()) continue;
    const std::uint32_t bit = 1U << (at % 32);
    words[at / 32] = is_complete() ? words[at / 32] | bit : words[at / 32] & ~bit;
  }
}

bool Matcher::is_complete() const { return state_->has_ended || state_->threads.is_complete; }

bool Matcher::is_finished() const {
  return state_->has_ended || (is_complete() && state_->threads.list.empty());
}

}  // namespace nereid::grammar
