// Goal: what an answer has cost, as the APIs tell it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nereid/request.h"

namespace nereid::server {

struct Usage {
  std::int64_t n_prompt_tokens = 0;
  std::int64_t n_cached_tokens = 0;  // of the prompt
  std::int64_t n_generated_tokens = 0;

  // {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}
  std::string json() const;
};

// Of all requests of one answer.
Usage usage_of(const std::vector<Completion>& completions);

// "stop" or "length", in quotes; null while it goes on.
const char* finish_reason_json(FinishReason reason);

}  // namespace nereid::server
