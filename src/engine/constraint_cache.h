// Goal: a request's constraint as matchers for its answers. Constraints come again and again (an
// application has a few schemas), so the latest compiled ones are kept, for all threads.
// Non-goal: what a constraint means (grammar).
// Rejected: compiling on the thread that computes: a large schema would stop all answers.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "engine/token_matcher.h"
#include "grammar/grammar.h"
#include "nereid/constraint.h"
#include "tokenizer/tokenizer.h"

namespace nereid::engine {

class ConstraintCache {
 public:
  // `tokenizer` may be null: then every constraint is an Error. `n_vocab`: of the model's logits.
  ConstraintCache(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::int64_t n_vocab,
                  std::size_t max_grammars = kMaxGrammars);

  // From any thread. Empty where there is no constraint; an Error says what is wrong with it.
  MatcherMaker matchers_of(const Constraint& constraint);

  // Each keeps up to kMaskBytes of masks: half a gigabyte at worst, and a few megabytes as a rule.
  static constexpr std::size_t kMaxGrammars = 32;
  static constexpr std::size_t kMaskBytes = std::size_t{16} << 20;

 private:
  using Entry = std::pair<std::string, std::shared_ptr<const grammar::Grammar>>;

  std::shared_ptr<const grammar::Grammar> find(const std::string& key);
  void keep(std::string key, std::shared_ptr<const grammar::Grammar> compiled);
  std::shared_ptr<const grammar::Vocabulary> vocabulary();

  const std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
  const std::int64_t n_vocab_;
  const std::size_t max_grammars_;
  std::once_flag has_vocabulary_;
  std::shared_ptr<const grammar::Vocabulary> vocabulary_;  // of the first constraint

  std::mutex mutex_;
  std::list<Entry> entries_;  // the latest used first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
};

}  // namespace nereid::engine
