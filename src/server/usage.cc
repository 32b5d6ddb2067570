#include "server/usage.h"

#include <fmt/format.h>

#include "base/error.h"

namespace nereid::server {

std::string Usage::json() const {
  return fmt::format(R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
                     R"("prompt_tokens_details":{{"cached_tokens":{}}}}})",
                     n_prompt_tokens, n_generated_tokens, n_prompt_tokens + n_generated_tokens,
                     n_cached_tokens);
}

Usage usage_of(const std::vector<Completion>& completions) {
  Usage usage;
  for (const auto& completion : completions) {
    usage.n_prompt_tokens += std::int64_t(completion.prompt_ids.size());
    usage.n_cached_tokens += completion.n_cached_tokens;
    for (const auto& answer : completion.answers)
      usage.n_generated_tokens += std::int64_t(answer.ids.size());
  }
  return usage;
}

const char* finish_reason_json(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return "null";
    case FinishReason::stop:
      return "\"stop\"";
    case FinishReason::length:
    case FinishReason::time_limit:
      return "\"length\"";
    case FinishReason::cancelled:
    case FinishReason::error:
      break;  // told as errors
  }
  NEREID_UNREACHABLE("an answer ended with {}", int(reason));
}

}  // namespace nereid::server
