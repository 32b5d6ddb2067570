#include "engine/comparing.h"

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace nereid::engine {

Comparison compare(Runner& p, Runner& q, std::span<const std::int32_t> ids,
                   const CompareLogits& compare_logits) {
  if (p.vocab_size() != q.vocab_size())
    throw Error("the models have vocabularies of {} and {} tokens; expected the same to compare",
                p.vocab_size(), q.vocab_size());
  check_ids(p, ids);
  check_ids(q, ids);
  if (ids.size() < 2)
    throw Error("the text is one token: nothing can be compared; expected at least two");
  const auto max_step_tokens = std::min(p.limits().max_logit_rows, q.limits().max_logit_rows);
  Scoring of_p(p, ids, max_step_tokens);
  Scoring of_q(q, ids, max_step_tokens);
  const auto n_scored = ids.size() - 1;  // after the last token nothing is known
  Comparison result;
  std::vector<float> kl;
  std::vector<std::int32_t> is_same;
  std::size_t n_done = 0, n_same = 0;
  double sum = 0;
  while (!of_p.is_done()) {
    of_p.step();
    of_q.step();
    NEREID_CHECK(of_p.first_row() == of_q.first_row() && of_p.n_rows() == of_q.n_rows(),
                 "steps of {} and {} rows", of_p.n_rows(), of_q.n_rows());
    kl.resize(of_p.n_rows());
    is_same.resize(of_p.n_rows());
    compare_logits(of_p.read_logits(), of_q.read_logits(), kl, is_same);
    for (std::size_t i = 0; i < kl.size() && n_done < n_scored; ++i, ++n_done) {
      sum += double(kl[i]);
      result.kl_max = std::max(result.kl_max, double(kl[i]));
      n_same += is_same[i] != 0 ? 1 : 0;
    }
  }
  result.p = of_p.result();
  result.q = of_q.result();
  result.kl_mean = sum / double(n_scored);
  result.same_top = double(n_same) / double(n_scored);
  return result;
}

}  // namespace nereid::engine
