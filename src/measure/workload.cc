#include "measure/workload.h"

#include <random>

#include "program/settings.h"

namespace nereid::measure {

Options engine_options(const Options& options, const Workload& workload) {
  Options result = options;
  result.max_context_tokens = workload.n_prompt_tokens + workload.n_output_tokens;
  result.max_batch_tokens = workload.n_batch * workload.n_prompt_tokens;
  result.max_sequences = workload.n_batch;
  const auto blocks_of_one =
      (result.max_context_tokens + program::kBlockTokens - 1) / program::kBlockTokens;
  result.n_kv_blocks = workload.n_batch * blocks_of_one;
  return result;
}

std::vector<Request> make_requests(const Workload& workload, std::int64_t vocab_size) {
  std::mt19937_64 random(workload.seed);
  std::vector<Request> requests(static_cast<std::size_t>(workload.n_batch));
  for (auto& request : requests) {
    for (std::int64_t i = 0; i < workload.n_prompt_tokens; ++i)
      request.prompt_ids.push_back(
          static_cast<TokenId>(random() % static_cast<std::uint64_t>(vocab_size)));
    request.max_tokens = workload.n_output_tokens;
    request.ignore_eos = true;
  }
  return requests;
}

}  // namespace nereid::measure
