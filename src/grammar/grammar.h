// Goal: while an answer is made, which tokens keep its text within a Constraint: a mask of the
// vocabulary for each position, exact for what is supported (docs/constrained.md).
// Non-goal: sampling; repairing a text that broke the rules; keywords of JSON Schema that need
// what is not read yet (not, if, contains, uniqueItems): those are an Error.
// Rejected: xgrammar 0.2.9: 42,000 lines, 30 files of about ten seconds each at -O2, where this
// layer takes 25 seconds in all. It fixes the order of properties, and passes over keywords that it
// does not know (uniqueItems, contains, multipleOf of numbers, a pattern with a length) with a line
// in a log: the caller believes that the answer keeps them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "grammar/limits.h"
#include "grammar/vocabulary.h"
#include "nereid/constraint.h"
#include "nereid/request.h"

namespace nereid::grammar {

// Immutable but for its cache of masks, which any number of threads may use at the same time.
class Grammar;

// An Error (invalid_argument) names what is not supported and where it stands, or the limit that
// was passed. Kind::none is an Error: there is nothing to compile.
std::shared_ptr<const Grammar> compile(const Constraint& constraint,
                                       std::shared_ptr<const Vocabulary> vocabulary,
                                       const Limits& limits = {});

// The position of one answer in its grammar. A copy is another answer with the same beginning.
class Matcher {
 public:
  // `end_ids` are the tokens that may end the answer; they have no text.
  Matcher(std::shared_ptr<const Grammar> grammar, std::span<const TokenId> end_ids);
  ~Matcher();
  Matcher(const Matcher& other);
  Matcher& operator=(const Matcher& other);
  Matcher(Matcher&&) noexcept;
  Matcher& operator=(Matcher&&) noexcept;

  // The next token of the answer; false, and nothing changed, where it is not allowed. An end token
  // finishes the answer.
  bool accept(TokenId id);
  // The same for bytes, which need not be a token's.
  bool accept_bytes(std::string_view bytes);

  // Writes all `words` (one bit a token, the lowest bit of words[0] is token 0): 1 = allowed next.
  // Once the answer is finished, end tokens only. No bit is set only where the vocabulary has no
  // token for any byte that may follow. Uses scratch memory: one thread at a time.
  void fill_mask(std::span<std::uint32_t> words) const;

  bool is_complete() const;  // the text may end here
  bool is_finished() const;  // nothing but an end token may follow, or one has come

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nereid::grammar
