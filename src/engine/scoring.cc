#include "engine/scoring.h"

#include <cmath>

#include "base/error.h"
#include "base/usage_error.h"
#include "sched/scheduler.h"

namespace nereid::engine {

namespace {

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

}  // namespace

Score score(Runner& runner, std::span<const std::int32_t> ids, const LogitsSink& logits) {
  check_ids(runner, ids);
  if (ids.size() < 2 && !logits)
    throw Error(
        "the text is one token: nothing can be scored; expected at least two, each after the "
        "first is scored");
  // Every token of a step has a row of logits.
  sched::Limits limits = runner.limits();
  limits.max_sequences = 1;
  limits.max_batch_tokens = limits.max_logit_rows;
  limits.max_mixed_tokens = 0;
  sched::Scheduler scheduler(limits);
  sched::Sequence sequence({.prompt_ids = {ids.begin(), ids.end()}, .want_all_logits = true});
  scheduler.add(sequence);

  Score result;
  result.logprobs.reserve(ids.size());
  std::vector<std::int32_t> targets;
  std::vector<float> rows;
  double sum = 0;
  while (!sequence.is_exhausted()) {
    const sched::StepBatch& batch = scheduler.schedule();
    const std::int64_t first = batch.positions.front();
    NEREID_CHECK(batch.n_logit_rows == batch.n_tokens, "{} rows of logits for {} tokens",
                 batch.n_logit_rows, batch.n_tokens);
    targets.clear();
    // The last token of the text has no successor: its row's value is not used.
    for (std::int64_t t = first; t < first + batch.n_tokens; ++t)
      targets.push_back(t + 1 < std::int64_t(ids.size()) ? ids[std::size_t(t) + 1] : 0);
    const StepResult step =
        runner.step({.batch = &batch, .sampling = {}, .token_slots = {}, .target_ids = targets});
    NEREID_CHECK(step.logprobs.size() == targets.size(), "{} log-probabilities for {} rows",
                 step.logprobs.size(), targets.size());
    for (std::size_t i = 0; i < step.logprobs.size(); ++i)
      if (std::isnan(step.logprobs[i]))
        throw Error(ErrorCode::internal, "after token {}: {}", first + std::int64_t(i),
                    not_finite_text(step.first_odd));
    if (logits) {
      rows.resize(targets.size() * std::size_t(runner.vocab_size()));
      runner.read_logits(rows);
      logits(first, rows);
    }
    for (std::size_t i = 0; i < targets.size() && result.logprobs.size() + 1 < ids.size(); ++i) {
      result.logprobs.push_back(step.logprobs[i]);
      sum -= double(step.logprobs[i]);
    }
    scheduler.complete({});
  }
  scheduler.finish(sequence);
  result.nll = sum / double(result.logprobs.size());
  result.perplexity = std::exp(result.nll);
  return result;
}

}  // namespace nereid::engine
