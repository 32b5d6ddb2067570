// Goal: how likely a model finds a given text: the log-probability of each token after those before
// it.
// Non-goal: generating, or texts longer than the context.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/runner.h"
#include "sched/scheduler.h"
#include "sched/sequence.h"

namespace nereid::engine {

struct Score {
  std::vector<float> logprobs;  // [T - 1] natural log; of token t + 1 given tokens 0..t
  double nll = 0;               // mean of -logprobs; NaN for a single token
  double perplexity = 0;        // exp(nll)
};

// Rows of logits in the order of the tokens: `first_row` and [n, V] values.
using LogitsSink = std::function<void(std::int64_t first_row, std::span<const float> logits)>;

// One text through one model, a step at a time. The ids are some, at most the context, and of the
// vocabulary: check_ids() says so.
class Scoring {
 public:
  // Of at most so many tokens a step, and no more than the model takes.
  Scoring(Runner& runner, std::span<const std::int32_t> ids, std::int64_t max_step_tokens);
  Scoring(const Scoring&) = delete;  // the scheduler knows where the sequence lies

  bool is_done() const { return sequence_.is_exhausted(); }
  // The next tokens; an Error where their logits are not finite.
  void step();
  // Of the last step: its first token's place, how many tokens it had, and their logits [n, V].
  std::int64_t first_row() const { return first_row_; }
  std::size_t n_rows() const { return targets_.size(); }
  std::span<const float> read_logits();

  Score result() const;  // once all is done

 private:
  Runner& runner_;
  const std::span<const std::int32_t> ids_;
  sched::Scheduler scheduler_;
  sched::Sequence sequence_;
  std::int64_t first_row_ = 0;
  std::vector<std::int32_t> targets_;
  std::vector<float> rows_, logprobs_;
};

// An Error says that there are no ids, too many for the context, or one outside the vocabulary.
void check_ids(const Runner& runner, std::span<const std::int32_t> ids);

// An Error says that there are no tokens, only one (unless its logits are wanted), too many for the
// context, or one outside the vocabulary.
Score score(Runner& runner, std::span<const std::int32_t> ids, const LogitsSink& logits = {});

}  // namespace nereid::engine
