// Goal: what the generator asks of an answer's constraint: which tokens may come next, and what
// came.
// Non-goal: how a constraint is written or compiled (grammar), the tokens that end an answer
// (Generator).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "nereid/request.h"

namespace nereid::engine {

class TokenMatcher {
 public:
  virtual ~TokenMatcher() = default;
  // Of the token chosen. False where it cannot come here: nothing has changed then.
  virtual bool accept(TokenId id) = 0;
  // A bit a token, [ceil(V / 32)], all words are written: which tokens of text may come.
  virtual void fill_mask(std::span<std::uint32_t> mask) = 0;
  // The text may end here.
  virtual bool is_complete() const = 0;
  // It ends here: no token can come.
  virtual bool is_finished() const = 0;
};

// Of one request: a matcher for each of its answers.
using MatcherMaker = std::function<std::unique_ptr<TokenMatcher>()>;

}  // namespace nereid::engine
