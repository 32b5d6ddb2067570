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
  check("max_sequences", options.max_sequences, ranges::kSequences);
  check("n_kv_blocks", options.n_kv_blocks, ranges::kKvBlocks);
}

void check_request(const Request& request) {
  for (const SamplingParam& param : kSamplingParams)
    std::visit(
        [&](const auto& field) { check(param.name, request.sampling.*field.member, field.range); },
        param.field);
  check("max_tokens", request.max_tokens, ranges::kMaxTokens);
  for (const auto& stop : request.stop)
    if (stop.empty()) throw UsageError("a stop string is empty; expected at least one character");
}

}  // namespace nereid::engine
