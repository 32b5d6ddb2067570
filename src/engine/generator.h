// Goal: prompts as ids in, ids out: continuous batching of many requests over one Runner, a step at
// a time. Where the device works beside the host, the next step is queued before the last one's ids
// are looked at; but what chooses among an answer's constrained tokens only after that, while the
// device computes their logits.
// Non-goal: text and results (Reply), threads (ServiceCore), which sequences run (sched), computing
// (Runner).
// Rejected: text in here. A server makes it on its callers' threads; here the device would wait for
// it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/runner.h"
#include "engine/stats.h"
#include "engine/token_matcher.h"
#include "nereid/request.h"
#include "sched/scheduler.h"

namespace nereid::engine {

// What one step did for one answer. The views are valid during the call only.
struct AnswerEvent {
  RequestId request = 0;
  std::int32_t answer = 0;
  std::span<const TokenId> ids = {};             // new ones: none or one
  std::span<const TokenLogprobs> logprobs = {};  // of them, where asked for
  // Of the prompt, where asked for: of the tokens that this step scored, in order.
  std::span<const TokenLogprobs> prompt_logprobs = {};
  std::int64_t n_cached_tokens = 0;  // of the prompt; known with the first token
  bool has_end_token = false;  // the last of `ids` ends the answer, and is no part of its text
  FinishReason finish_reason = FinishReason::none;
  std::string_view error = {};
};

// True: the answer ends here for a reason of the receiver's own (a stop string); no event of it
// follows. It must not throw, nor call the generator.
using EventSink = std::function<bool(const AnswerEvent&)>;

class Generator {
 public:
  // `eos_ids` end an answer unless its request says ignore_eos.
  Generator(Runner& runner, std::vector<TokenId> eos_ids, Clock::time_point opened = Clock::now());
  ~Generator();

  // An Error says what is out of range, or why the request can never run. From any thread.
  void check(const Request& request) const;
  // `request.prompt_ids` is the prompt; its text is not looked at. Throws as check() does, and
  // where the device has failed. `make_matcher`: of its constraint, where it has one.
  RequestId submit(const Request& request, Clock::time_point now = Clock::now(),
                   const MatcherMaker& make_matcher = {});
  // Runs a step and tells what came of it. False where nothing is left to do. A step that fails
  // ends the answers that were in it, with its message; where the device cannot go on, all others
  // too, and broken() says why.
  bool step(const EventSink& on_event);
  // The answers end with what they have, which the next step() tells. False where no such request
  // is unfinished.
  bool cancel(RequestId request);
  // The same with no event, at once; of one answer, or with -1 of all.
  bool withdraw(RequestId request, std::int32_t answer = -1);

  // False: a step is done before the next is queued, wherever the device works. For traces.
  void set_works_ahead(bool works_ahead) { works_ahead_ = works_ahead; }

  bool is_unfinished(RequestId request) const { return unfinished_.contains(request); }
  bool has_work() const { return !unfinished_.empty(); }
  // Why the device runs no more steps; empty while it does.
  const std::string& broken() const { return broken_; }

  Stats stats() const;
  MemoryUse memory_use() const { return runner_.memory_use(); }
  const Counts& counts() const { return stats_.counts(); }
  const sched::Scheduler& scheduler() const { return scheduler_; }
  // Of the scheduler, and that nothing here is left of what ended. For tests and idle moments.
  void check_integrity() const;

 private:
  struct Active;
  struct InFlight {
    const sched::StepBatch* batch = nullptr;
    Clock::time_point queued;
  };

  Active& active_of(const sched::Sequence& sequence) { return *active_[sequence.id()]; }
  std::vector<TokenId> end_ids_of(const Request& request) const;
  std::unique_ptr<Active> make_active(const Request& request, std::int32_t answer,
                                      Clock::time_point now, const MatcherMaker& make_matcher);
  void add(std::unique_ptr<Active> active);
  bool queue_next();
  void queue_held_tail();
  bool fill_mask(Active& active);
  void finish_oldest(const EventSink& on_event);
  void fail_steps(std::string message, const EventSink& on_event);
  void tell_end(Active& active, FinishReason reason, std::string_view error,
                const EventSink& on_event);
  void tell_early_ends(Clock::time_point now, const EventSink& on_event);
  void finish(Active& active);
  void release_slots_of_preempted();
  void assign_slot(Active& active);
  void fill_rows(const sched::StepBatch& batch);
  void append_token(Active& active, std::size_t row, const StepResult& result,
                    Clock::time_point now, const EventSink& on_event);
  bool matches(Active& active, TokenId id, const EventSink& on_event);
  void tell_scores(const sched::StepBatch& batch, const StepResult& result,
                   const EventSink& on_event);

  Runner& runner_;
  std::vector<TokenId> eos_ids_;
  sched::Scheduler scheduler_;
  StatsCollector stats_;
  std::string broken_;

  std::vector<std::unique_ptr<Active>> active_;  // by sequence id; null: free for the next
  std::vector<std::uint64_t> free_ids_;
  std::unordered_map<RequestId, std::vector<std::uint64_t>> unfinished_;  // their sequences
  RequestId n_submitted_ = 0;
  std::array<InFlight, 2> in_flight_;  // the oldest first
  std::size_t n_in_flight_ = 0;
  bool is_tail_held_ = false;  // of the newest in flight
  bool works_ahead_;

  std::vector<std::int32_t> free_slots_;  // of the Runner's tables
  std::int64_t n_preemptions_seen_ = 0;
  std::int64_t n_with_slots_ = 0;   // active ones that need a slot
  std::int64_t n_with_limits_ = 0;  // active ones with a time limit
  bool has_early_ends_ = false;
  Clock::time_point last_ids_;             // when the step before gave its ids; none after a pause
  std::vector<TokenLogprobs> scores_;      // of one prompt in one step
  std::vector<SamplingRow> rows_;          // [L]
  std::vector<std::int32_t> token_slots_;  // [T]
  std::vector<std::int32_t> target_ids_;   // [L]
  std::vector<std::int32_t> mask_slots_;   // of the held tail's constrained rows
};

}  // namespace nereid::engine
