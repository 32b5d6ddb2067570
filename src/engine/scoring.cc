#include "engine/scoring.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/usage_error.h"

namespace nereid::engine {

namespace {

// Every token of a step has a row of logits.
sched::Limits step_limits(const Runner& runner, std::int64_t max_step_tokens) {
  sched::Limits limits = runner.limits();
  limits.max_sequences = 1;
  limits.max_batch_tokens = std::min(limits.max_logit_rows, max_step_tokens);
  limits.max_mixed_tokens = 0;
  return limits;
}

}  // namespace

void check_ids(const Runner& runner, std::span<const std::int32_t> ids) {
  const std::int64_t n_most = runner.limits().max_sequence_tokens();
  if (ids.empty()) throw Error("the text has no tokens; expected at least one");
  if (std::int64_t(ids.size()) > n_most)
    throw Error(ErrorCode::context_length,
                "the text has {} tokens; expected at most {}, the context; score a shorter text or "
                "give more context or KV blocks",
                ids.size(), n_most);
  for (const auto id : ids)
    if (id < 0 || id >= runner.vocab_size())
      throw UsageError("token id {}; expected 0 to {}, the model's vocabulary", id,
                       runner.vocab_size() - 1);
}

Scoring::Scoring(Runner& runner, std::span<const std::int32_t> ids, std::int64_t max_step_tokens)
    : runner_(runner),
      ids_(ids),
      scheduler_(step_limits(runner, max_step_tokens)),
      sequence_({.prompt_ids = {ids.begin(), ids.end()}, .want_all_logits = true}) {
  scheduler_.add(sequence_);
  logprobs_.reserve(ids.size());
}

void Scoring::step() {
  const sched::StepBatch& batch = scheduler_.schedule();
  first_row_ = batch.positions.front();
  NEREID_CHECK(batch.n_logit_rows == batch.n_tokens, "{} rows of logits for {} tokens",
               batch.n_logit_rows, batch.n_tokens);
  targets_.clear();
  // The last token of the text has no successor: its row's value is not used.
  for (auto t = std::size_t(first_row_); t < std::size_t(first_row_ + batch.n_tokens); ++t)
    targets_.push_back(t + 1 < ids_.size() ? ids_[t + 1] : 0);
  const StepResult step =
      runner_.step({.batch = &batch, .sampling = {}, .token_slots = {}, .target_ids = targets_});
  NEREID_CHECK(step.logprobs.size() == targets_.size(), "{} log-probabilities for {} rows",
               step.logprobs.size(), targets_.size());
  for (std::size_t i = 0; i < step.logprobs.size(); ++i)
    if (std::isnan(step.logprobs[i]))
      throw Error(ErrorCode::internal, "after token {}: {}", first_row_ + std::int64_t(i),
                  not_finite_text(step.first_odd));
  const auto n_scored = std::min(targets_.size(), ids_.size() - 1 - logprobs_.size());
  logprobs_.insert(logprobs_.end(), step.logprobs.begin(),
                   step.logprobs.begin() + std::ptrdiff_t(n_scored));
  scheduler_.complete({});
}

std::span<const float> Scoring::read_logits() {
  rows_.resize(n_rows() * std::size_t(runner_.vocab_size()));
  runner_.read_logits(rows_);
  return rows_;
}

Score Scoring::result() const {
  double sum = 0;
  for (const auto logprob : logprobs_) sum -= double(logprob);
  const double nll = sum / double(logprobs_.size());
  return {.logprobs = logprobs_, .nll = nll, .perplexity = std::exp(nll)};
}

Score score(Runner& runner, std::span<const std::int32_t> ids, const LogitsSink& logits) {
  check_ids(runner, ids);
  if (ids.size() < 2 && !logits)
    throw Error(
        "the text is one token: nothing can be scored; expected at least two, each after the "
        "first is scored");
  Scoring scoring(runner, ids, runner.limits().max_logit_rows);
  while (!scoring.is_done()) {
    scoring.step();
    if (logits) logits(scoring.first_row(), scoring.read_logits());
  }
  return scoring.result();
}

}  // namespace nereid::engine
