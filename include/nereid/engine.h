// Goal: text generation from C++: open a model, submit requests, take tokens and text, many
// requests at once; the same calls give the same results.
// Non-goal: threads. An Engine belongs to one thread; a Service (service.h) is one that many use.
// Rejected: a blocking call per prompt only. Continuous batching needs submit() between steps.
//
//   nereid::Engine engine({.model_dir = "models/demo"});
//   const nereid::Request request{.prompt = "def f(x):"};
//   std::cout << engine.run({&request, 1})[0].answers[0].text;
//
// Everything throws a nereid::Error that says what was expected, what was got, and the cure.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nereid/error.h"
#include "nereid/memory_use.h"
#include "nereid/options.h"
#include "nereid/request.h"

namespace nereid {

// Since the engine was opened. A step counts as decode where every token in it follows a generated
// one, else as prefill.
struct Stats {
  double ttft_ms = 0;                 // submit to first token, median over requests
  double open_to_first_token_ms = 0;  // the Engine's constructor to the first token of all
  double itl_ms_median = 0;           // between two tokens of a request
  double itl_ms_p99 = 0;
  double host_us_median = 0;         // what the host does between the waits of two decode steps
  double prefill_tokens_per_s = 0;   // prompt tokens, over the time of prefill steps
  double decode_tokens_per_s = 0;    // generated tokens, over the time of decode steps
  double weight_gb_per_s = 0;        // weights read by decode steps, over their time
  std::int64_t n_prompt_tokens = 0;  // computed: a preempted prompt counts again
  std::int64_t n_cached_tokens = 0;  // of prompts, found in the cache and not computed
  std::int64_t n_generated_tokens = 0;
  std::int64_t n_steps = 0;
  std::int64_t n_preemptions = 0;      // sequences put back because the KV cache was full
  std::int64_t peak_memory_bytes = 0;  // resident set of the process
  MemoryUse device_memory;
};

class NEREID_API Engine {
 public:
  explicit Engine(const Options& options);
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  // Queues a request. Throws where it can never run: an empty prompt, or one longer than the
  // context.
  RequestId submit(const Request& request);
  // Computes one batch and reports each request that got on. False where nothing is left to do. The
  // callback may cancel(); submit(), step() and take() throw there. What it throws ends its request
  // with FinishReason::error, and so does a step that fails for all requests that were in it; the
  // others go on.
  bool step(const ProgressCallback& on_progress = {});
  // Ends a request with what it has, which the next step() reports. One that is finished stays as
  // it is. Throws not_found where there is no such request.
  void cancel(RequestId request);
  // The result of a finished request, which the engine then forgets. Throws not_found where there
  // is no such request (any more), invalid_argument where it is not finished.
  Completion take(RequestId request);

  // All of these requests together, to their ends; results in the order of the requests. Throws
  // before the first step where one of them can never run.
  std::vector<Completion> run(std::span<const Request> requests,
                              const ProgressCallback& on_progress = {});

  bool has_tokenizer() const;
  std::vector<TokenId> encode(
      std::string_view text) const;  // with the tokens the model wants before a prompt
  // The tokens that encode() adds before a prompt, where this one begins with them already ("<s>");
  // they are then there once. Empty where it does not.
  std::string written_start(std::string_view prompt) const;
  std::string decode(std::span<const TokenId> ids) const;

  std::int64_t max_context_tokens() const;
  std::string device_name() const;
  std::string mode() const;  // eager, compiled or graph: what Options::mode came to
  Stats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nereid
