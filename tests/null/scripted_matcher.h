// Goal: a constraint whose rules are a function of a number and of all tokens so far: a token that
// is lost, or that another answer's matcher gets, changes what is allowed next.
// Non-goal: text.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "engine/token_matcher.h"

namespace nereid::engine {

class ScriptedMatcher final : public TokenMatcher {
 public:
  explicit ScriptedMatcher(std::uint64_t number) : state_(mixed(number)) {}

  // About half of all tokens; none where the text has reached its end, or a dead end.
  bool allows(TokenId id) const {
    return !is_finished() && !is_dead() && mixed(state_ ^ std::uint64_t(id) << 32) % 2 == 0;
  }
  bool accept(TokenId id) override {
    if (!allows(id)) return false;
    state_ = mixed(state_ + std::uint64_t(id) + 1);
    return true;
  }
  void fill_mask(std::span<std::uint32_t> mask) override {
    for (std::size_t word = 0; word < mask.size(); ++word) {
      mask[word] = 0;
      for (std::size_t bit = 0; bit < 32; ++bit)
        if (allows(TokenId(word * 32 + bit))) mask[word] |= std::uint32_t{1} << bit;
    }
  }
  bool is_complete() const override { return is_finished() || state_ % 5 == 0; }
  bool is_finished() const override { return state_ % 29 == 0; }

 private:
  static std::uint64_t mixed(std::uint64_t value) {
    value = (value ^ (value >> 31)) * 0x9E3779B97F4A7C15U;
    value = (value ^ (value >> 29)) * 0xBF58476D1CE4E5B9U;
    return value ^ (value >> 32);
  }
  bool is_dead() const { return state_ % 97 == 1; }

  std::uint64_t state_;
};

inline Constraint scripted(std::uint64_t number) {
  return {.kind = Constraint::Kind::regex, .text = std::to_string(number)};
}

inline MatcherMaker scripted_matchers(const Constraint& constraint) {
  if (constraint.kind == Constraint::Kind::none) return {};
  return
      [number = std::stoull(constraint.text)] { return std::make_unique<ScriptedMatcher>(number); };
}

}  // namespace nereid::engine
