// Goal: a batch of random prompts and answers of a fixed length, and an engine just large enough
// for it: what the benchmark and the trace run.
#pragma once

#include <cstdint>
#include <vector>

#include "nereid/options.h"
#include "nereid/request.h"

namespace nereid::measure {

struct Workload {
  std::int64_t n_batch = 2;
  std::int64_t n_prompt_tokens = 512;
  std::int64_t n_output_tokens = 256;
  std::uint64_t seed = 1;  // of the prompts' ids
};

// All prompts in one step; a cache for all sequences.
Options engine_options(const Options& options, const Workload& workload);
// Greedy, and on past the end of text.
std::vector<Request> make_requests(const Workload& workload, std::int64_t vocab_size);

}  // namespace nereid::measure
