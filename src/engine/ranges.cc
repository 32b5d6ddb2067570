#include "engine/ranges.h"

#include "base/usage_error.h"
#include "engine/sampling_params.h"

namespace nereid::engine {

namespace {

template <typename T, typename Value>
void check(std::string_view name, Value value, const Range<T>& range) {
  if (!range.contains(value))
    throw UsageError("{} is {}; expected {}", name, value, range.expected);
}

}  // namespace

void check_options(const Options& options) {
  check("n_threads", options.n_threads, ranges::kThreads);
  check("max_context_tokens", options.max_context_tokens, ranges::kContextTokens);
  check("max_batch_tokens", options.max_batch_tokens, ranges::kBatchTokens);
  check("max_mixed_tokens", options.max_mixed_tokens, ranges::kBatchTokens);
  check("max_sequences", options.max_sequences, ranges::kSequences);
  check("n_kv_blocks", options.n_kv_blocks, ranges::kKvBlocks);
  check("rank_deadline_s", options.rank_deadline_s, ranges::kRankDeadline);
}

void check_options(const ServiceOptions& options) {
  check("max_queued_requests", options.max_queued_requests, ranges::kQueue);
  check("max_queued_prompt_tokens", options.max_queued_prompt_tokens, ranges::kQueue);
}

void check_request(const Request& request) {
  for (const SamplingParam& param : kSamplingParams)
    std::visit(
        [&](const auto& field) { check(param.name, request.sampling.*field.member, field.range); },
        param.field);
  check("max_tokens", request.max_tokens, ranges::kMaxTokens);
  check("n_answers", request.n_answers, ranges::kAnswers);
  check("min_tokens", request.min_tokens, ranges::kMaxTokens);
  if (request.min_tokens > request.max_tokens)
    throw UsageError("min_tokens is {} and max_tokens {}; expected no more than that",
                     request.min_tokens, request.max_tokens);
  if (request.n_logprobs) check("n_logprobs", *request.n_logprobs, ranges::kLogprobs);
  if (request.n_prompt_logprobs)
    check("n_prompt_logprobs", *request.n_prompt_logprobs, ranges::kLogprobs);
  for (const auto& [id, bias] : request.logit_bias) check("logit_bias", bias, ranges::kBias);
  check("time_limit", request.time_limit.count(), ranges::kMaxTokens);
  for (const auto& stop : request.stop)
    if (stop.empty()) throw UsageError("a stop string is empty; expected at least one character");
}

}  // namespace nereid::engine
