#include "engine/constraint_cache.h"

#include <algorithm>

#include "base/error.h"

namespace nereid::engine {

namespace {

// All of a constraint's content; a text's length before it keeps neighbours apart.
std::string key_of(const Constraint& constraint) {
  std::string key = fmt::format("{} {} ", int(constraint.kind), constraint.max_calls);
  const auto add = [&](const std::string& text) { key += fmt::format("{}:{}", text.size(), text); };
  add(constraint.text);
  for (const auto& choice : constraint.choices) add(choice);
  key += '|';
  for (const auto& [prefix, schema, suffix] : constraint.calls)
    add(prefix), add(schema), add(suffix);
  key += '|';
  add(constraint.before);
  add(constraint.between);
  add(constraint.after);
  return key;
}

class GrammarMatcher final : public TokenMatcher {
 public:
  // The tokens that end an answer are the engine's own.
  explicit GrammarMatcher(std::shared_ptr<const grammar::Grammar> compiled)
      : matcher_(std::move(compiled), {}) {}

  bool accept(TokenId id) override { return matcher_.accept(id); }
  void fill_mask(std::span<std::uint32_t> mask) override {
    if (matcher_.is_finished())
      std::ranges::fill(mask, 0U);
    else
      matcher_.fill_mask(mask);
  }
  bool is_complete() const override { return matcher_.is_complete(); }
  bool is_finished() const override { return matcher_.is_finished(); }

 private:
  grammar::Matcher matcher_;
};

}  // namespace

ConstraintCache::ConstraintCache(std::shared_ptr<const tokenizer::Tokenizer> tokenizer,
                                 std::int64_t n_vocab, std::size_t max_grammars)
    : tokenizer_(std::move(tokenizer)), n_vocab_(n_vocab), max_grammars_(max_grammars) {}

MatcherMaker ConstraintCache::matchers_of(const Constraint& constraint) {
  if (constraint.kind == Constraint::Kind::none) return {};
  if (tokenizer_ == nullptr)
    throw Error(ErrorCode::invalid_argument,
                "this model has no tokenizer.json; a constraint needs one");
  auto key = key_of(constraint);
  auto compiled = find(key);
  if (compiled == nullptr) {
    compiled = grammar::compile(constraint, vocabulary(), {.cache_bytes = kMaskBytes});
    keep(std::move(key), compiled);
  }
  return [compiled] { return std::make_unique<GrammarMatcher>(compiled); };
}

std::shared_ptr<const grammar::Vocabulary> ConstraintCache::vocabulary() {
  std::call_once(has_vocabulary_, [&] {
    vocabulary_ = grammar::Vocabulary::of(*tokenizer_, std::size_t(n_vocab_));
  });
  return vocabulary_;
}

std::shared_ptr<const grammar::Grammar> ConstraintCache::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto it = by_key_.find(key);
  if (it == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, it->second);
  return it->second->second;
}

// Another thread may have compiled the same meanwhile: then that one stays.
void ConstraintCache::keep(std::string key, std::shared_ptr<const grammar::Grammar> compiled) {
  const std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return;
  entries_.emplace_front(key, std::move(compiled));
  by_key_.emplace(std::move(key), entries_.begin());
  if (entries_.size() <= max_grammars_) return;
  by_key_.erase(entries_.back().first);
  entries_.pop_back();
}

}  // namespace nereid::engine
