#include "engine/generator.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/usage_error.h"
#include "engine/ranges.h"
#include "engine/token_mask.h"

namespace nereid::engine {

struct Generator::Active {
  Active(sched::Sequence tokens) : sequence(std::move(tokens)) {}

  RequestId request = 0;
  std::int32_t answer = 0;
  sched::Sequence sequence;
  SamplingRow sampling;
  std::vector<TokenId> end_ids;
  // What goes into the tables of its slot.
  bool needs_slot = false;
  bool counts_tokens = false;
  std::int32_t n_counted = 0;      // of its tokens, when the slot was filled
  std::int32_t n_preemptions = 0;  // of its sequence, as far as its slot knows
  std::vector<BiasRow> biases;
  std::vector<TokenId> allowed_ids;
  // Follows what was generated; null: unconstrained.
  std::unique_ptr<TokenMatcher> matcher;
  // The step in flight has nothing to choose for it: told with that step's other results.
  FinishReason choiceless_end = FinishReason::none;
  std::string choiceless_error;
  std::int64_t min_tokens = 0;
  std::int32_t n_top_prompt = -1;  // of scored prompt tokens; -1: they are not scored
  std::int32_t n_scored = 1;       // prompt tokens whose scores were told; the first has none
  FinishReason early_end = FinishReason::none;  // to be told by the next step
  bool has_time_limit = false;
  Clock::time_point deadline;
  Clock::time_point submitted;
  Clock::time_point last_token;
  bool has_tokens = false;
  TokenLogprobs logprobs;  // of the newest token
};

Generator::Generator(Runner& runner, std::vector<TokenId> eos_ids, Clock::time_point opened)
    : runner_(runner),
      eos_ids_(std::move(eos_ids)),
      scheduler_(runner.limits()),
      stats_(opened, runner.weight_bytes()),
      works_ahead_(runner.works_beside_host()) {
  const sched::Limits& limits = runner.limits();
  for (std::int64_t slot = limits.max_sequences - 1; slot >= 0; --slot)
    free_slots_.push_back(std::int32_t(slot));
  rows_.reserve(std::size_t(limits.max_logit_rows));
  target_ids_.reserve(std::size_t(limits.max_logit_rows));
  token_slots_.reserve(std::size_t(limits.max_batch_tokens));
  mask_slots_.reserve(std::size_t(limits.max_sequences));
}

Generator::~Generator() = default;

namespace {

void check_ids(std::string_view what, std::span<const TokenId> ids, std::int64_t vocab_size) {
  for (const TokenId id : ids)
    if (id < 0 || id >= vocab_size)
      throw UsageError("token id {} in {}; expected 0 to {}, the model's vocabulary", id, what,
                       vocab_size - 1);
}

}  // namespace

void Generator::check(const Request& request) const {
  check_request(request);
  const auto vocab_size = runner_.vocab_size();
  if (request.prompt_ids.empty())
    throw UsageError("the prompt has no tokens; expected at least one");
  check_ids("the prompt", request.prompt_ids, vocab_size);
  check_ids("stop_ids", request.stop_ids, vocab_size);
  check_ids("allowed_ids", request.allowed_ids, vocab_size);
  for (const auto& [id, bias] : request.logit_bias) check_ids("logit_bias", {&id, 1}, vocab_size);
  const auto n_prompt = std::int64_t(request.prompt_ids.size());
  const std::int64_t n_most = runner_.limits().max_sequence_tokens();
  if (n_prompt > n_most)
    throw Error(ErrorCode::context_length,
                "the prompt has {} tokens; expected at most {}, the context; shorten the prompt or "
                "give more context or KV blocks",
                n_prompt, n_most);
  bias_rows(request, end_ids_of(request));
}

std::vector<TokenId> Generator::end_ids_of(const Request& request) const {
  auto ids = request.stop_ids;
  if (!request.ignore_eos) ids.insert(ids.end(), eos_ids_.begin(), eos_ids_.end());
  return ids;
}

std::unique_ptr<Generator::Active> Generator::make_active(const Request& request,
                                                          std::int32_t answer,
                                                          Clock::time_point now,
                                                          const MatcherMaker& make_matcher) {
  const auto n_prompt = std::int64_t(request.prompt_ids.size());
  const auto n_new =
      std::min(request.max_tokens, runner_.limits().max_sequence_tokens() - n_prompt);
  // The prompt is scored once, whatever the number of answers.
  const bool scores_prompt = request.n_prompt_logprobs.has_value() && answer == 0;
  const std::uint64_t id = free_ids_.empty() ? active_.size() : free_ids_.back();
  auto active = std::make_unique<Active>(sched::Sequence({.id = id,
                                                          .prompt_ids = request.prompt_ids,
                                                          .max_new_tokens = std::int32_t(n_new),
                                                          .want_all_logits = scores_prompt,
                                                          .cache_salt = request.cache_salt}));
  active->request = n_submitted_;
  active->answer = answer;
  auto& row = active->sampling;
  row.params = request.sampling;
  row.seed = request.sampling.seed.value_or(std::uint64_t(n_submitted_)) + std::uint64_t(answer);
  const auto n_vocab = std::int32_t(runner_.vocab_size());
  row.n_top = std::min(request.n_logprobs.value_or(-1), n_vocab);
  if (scores_prompt) active->n_top_prompt = std::min(*request.n_prompt_logprobs, n_vocab);
  active->end_ids = end_ids_of(request);
  active->biases = bias_rows(request, active->end_ids);
  active->allowed_ids = request.allowed_ids;
  std::ranges::sort(active->allowed_ids);
  active->counts_tokens = row.has_penalty();
  if (make_matcher) active->matcher = make_matcher();
  active->min_tokens = request.min_tokens;
  active->needs_slot = active->counts_tokens || !active->biases.empty() ||
                       !active->allowed_ids.empty() || active->matcher != nullptr;
  active->submitted = now;
  active->has_time_limit = request.time_limit.count() > 0;
  if (active->has_time_limit) active->deadline = later(now, request.time_limit);
  if (n_new == 0 && !scores_prompt) active->early_end = FinishReason::length;
  return active;
}

RequestId Generator::submit(const Request& request, Clock::time_point now,
                            const MatcherMaker& make_matcher) {
  if (!broken_.empty())
    throw Error(ErrorCode::device, "the device failed: {}; open the model again", broken_);
  check(request);
  const RequestId id = n_submitted_;
  try {
    unfinished_[id].reserve(std::size_t(request.n_answers));
    for (std::int32_t answer = 0; answer < request.n_answers; ++answer)
      add(make_active(request, answer, now, make_matcher));
  } catch (...) {
    withdraw(id);
    unfinished_.erase(id);
    throw;
  }
  ++n_submitted_;
  return id;
}

// What can throw comes before the first change that would be left behind.
void Generator::add(std::unique_ptr<Active> owned) {
  Active& active = *owned;
  const auto id = active.sequence.id();
  if (id == active_.size()) {
    // Room for all of them: finish() takes no memory.
    free_ids_.reserve(std::max(active_.capacity(), active_.size() + 1));
    active_.push_back(nullptr);
    free_ids_.push_back(id);
  }
  if (active.early_end == FinishReason::none)
    scheduler_.add(active.sequence);
  else
    has_early_ends_ = true;
  free_ids_.pop_back();
  if (active.needs_slot) ++n_with_slots_;
  if (active.has_time_limit) ++n_with_limits_;
  unfinished_.at(active.request).push_back(id);
  active_[id] = std::move(owned);
}

bool Generator::cancel(RequestId request) {
  const auto it = unfinished_.find(request);
  if (it == unfinished_.end()) return false;
  for (const auto id : it->second) active_[id]->early_end = FinishReason::cancelled;
  has_early_ends_ = true;
  return true;
}

bool Generator::withdraw(RequestId request, std::int32_t answer) {
  const auto it = unfinished_.find(request);
  if (it == unfinished_.end()) return false;
  bool was_unfinished = false;
  // From the end: finish() takes each off the list, and the list away with the last.
  for (std::size_t i = it->second.size(); i-- > 0;) {
    Active& active = *active_[it->second[i]];
    if (answer >= 0 && active.answer != answer) continue;
    was_unfinished = true;
    finish(active);
  }
  return was_unfinished;
}

Stats Generator::stats() const {
  Stats stats = stats_.summary();
  stats.n_preemptions = scheduler_.n_preemptions();
  stats.n_cached_tokens = scheduler_.n_prefix_hit_tokens();
  stats.device_memory = memory_use();
  return stats;
}

bool Generator::step(const EventSink& on_event) {
  if (has_early_ends_ || n_with_limits_ > 0) tell_early_ends(Clock::now(), on_event);
  try {
    const std::size_t n_most = works_ahead_ ? 2 : 1;
    while (n_in_flight_ < n_most && queue_next())
      if (n_in_flight_ == 1) queue_held_tail();
    if (n_in_flight_ > 0) finish_oldest(on_event);
    queue_held_tail();
  } catch (const std::exception& error) {
    fail_steps(error.what(), on_event);
  }
  if (!scheduler_.has_work() && n_in_flight_ == 0) last_ids_ = {};
  return has_work();
}

// False where there is nothing to queue before the ids of the step in flight are known.
bool Generator::queue_next() {
  if (!scheduler_.has_work()) return false;
  const sched::StepBatch& batch = scheduler_.schedule();
  if (batch.n_tokens == 0) return false;
  in_flight_[n_in_flight_++] = {&batch, Clock::now()};
  fill_rows(batch);
  runner_.queue({.batch = &batch,
                 .sampling = rows_,
                 .token_slots = token_slots_,
                 .target_ids = target_ids_,
                 .waits_for_masks = is_tail_held_});
  return true;
}

// All steps before it are finished: the matchers have what they chose.
void Generator::queue_held_tail() {
  if (!is_tail_held_) return;
  const sched::StepBatch& batch = *in_flight_[n_in_flight_ - 1].batch;
  mask_slots_.clear();
  for (std::int32_t row = 0; row < batch.n_sample_rows; ++row) {
    const auto* sequence = batch.row_sequences[std::size_t(row)];
    if (sequence == nullptr) continue;  // it ended meanwhile
    Active& active = active_of(*sequence);
    if (active.matcher == nullptr) continue;
    if (fill_mask(active)) mask_slots_.push_back(active.sampling.slot);
  }
  std::ranges::sort(mask_slots_);
  is_tail_held_ = false;
  runner_.queue_tail(mask_slots_);
}

// False: there is nothing to choose, and the answer ends with this step. The tokens that end an
// answer are the engine's own: allowed where the text is complete, and min_tokens reached.
bool Generator::fill_mask(Active& active) {
  const auto end = [&active](FinishReason reason, std::string error) {
    active.choiceless_end = reason;
    active.choiceless_error = std::move(error);
    return false;
  };
  const auto mask = runner_.mask(active.sampling.slot);
  bool is_complete = false;
  try {
    active.matcher->fill_mask(mask);
    is_complete = active.matcher->is_complete();
  } catch (const std::exception& error) {
    return end(FinishReason::error, error.what());
  }
  const bool may_end = is_complete && active.sequence.n_generated_tokens() >= active.min_tokens;
  for (const TokenId id : eos_ids_) set_allowed(mask, id, false);
  for (const TokenId id : active.end_ids) set_allowed(mask, id, may_end);
  if (!active.allowed_ids.empty()) keep_allowed(mask, active.allowed_ids);
  if (allows_any(mask, runner_.vocab_size())) return true;
  if (is_complete) return end(FinishReason::stop, {});
  return end(FinishReason::error, "no token is left that the constraint allows");
}

void Generator::finish_oldest(const EventSink& on_event) {
  const auto waiting_since = Clock::now();
  const StepResult result = runner_.wait();
  const auto now = Clock::now();
  const auto [batch_ptr, queued] = in_flight_[0];
  const sched::StepBatch& batch = *batch_ptr;
  NEREID_CHECK(std::int64_t(result.ids.size()) == batch.n_logit_rows, "{} ids for {} rows",
               result.ids.size(), batch.n_logit_rows);
  // A step that was queued ahead began when the one before it ended.
  stats_.record_step(now - std::max(queued, last_ids_), batch.n_tokens - batch.n_decodes,
                     batch.n_decodes);
  if (batch.n_tokens == batch.n_decodes && last_ids_ != Clock::time_point())
    stats_.record_host(waiting_since - last_ids_);
  last_ids_ = now;
  scheduler_.complete(result.ids.first(std::size_t(batch.n_sample_rows)));
  if (batch.n_sample_rows < batch.n_logit_rows) tell_scores(batch, result, on_event);
  for (std::int32_t row = 0; row < batch.n_sample_rows; ++row) {
    const auto* sequence = batch.row_sequences[std::size_t(row)];
    if (sequence == nullptr) continue;  // it ended while the step ran
    Active& active = active_of(*sequence);
    if (active.choiceless_end != FinishReason::none)
      tell_end(active, active.choiceless_end, active.choiceless_error, on_event);
    else if (result.ids[std::size_t(row)] == kNoChoice)
      tell_end(active, FinishReason::error, not_finite_text(result.first_odd), on_event);
    else
      append_token(active, std::size_t(row), result, now, on_event);
  }
  // Not before all of it is told: where that fails, its sequences have lost tokens.
  in_flight_[0] = in_flight_[1];
  --n_in_flight_;
}

void Generator::fill_rows(const sched::StepBatch& batch) {
  token_slots_.clear();
  if (n_with_slots_ > 0) {
    release_slots_of_preempted();
    token_slots_.assign(std::size_t(batch.n_tokens), -1);
    for (std::int32_t s = 0; s < batch.n_sequences; ++s) {
      Active& active = active_of(*batch.sequences[std::size_t(s)]);
      assign_slot(active);
      // A token of a step of its own counts when it is fed back, unless the slot had it.
      if (s < batch.n_decodes && active.counts_tokens &&
          batch.positions[std::size_t(s)] >= active.n_counted)
        token_slots_[std::size_t(s)] = active.sampling.slot;
    }
  }
  rows_.clear();
  target_ids_.clear();
  is_tail_held_ = false;
  for (std::int32_t row = 0; row < batch.n_logit_rows; ++row) {
    const Active& active = active_of(*batch.row_sequences[std::size_t(row)]);
    if (row < batch.n_sample_rows) {
      rows_.push_back(active.sampling);
      is_tail_held_ |= active.matcher != nullptr;
      // The last of the pending ones is what this row chooses.
      rows_.back().n_generated =
          active.sequence.n_generated_tokens() + active.sequence.n_pending_tokens() - 1;
      target_ids_.push_back(-1);
      continue;
    }
    rows_.emplace_back();
    rows_.back().n_top = active.n_top_prompt;
    // The last token of a text has no successor: what its row gives is not used.
    const auto scored =
        std::size_t(batch.positions[std::size_t(batch.logit_rows[std::size_t(row)])]) + 1;
    const auto ids = active.sequence.ids();
    target_ids_.push_back(scored < ids.size() ? ids[scored] : -1);
  }
}

void Generator::release_slots_of_preempted() {
  // Sequences that wait hold no slot, so that there is one for each that runs; one that runs again
  // already has its slot filled anew.
  if (scheduler_.n_preemptions() == n_preemptions_seen_) return;
  n_preemptions_seen_ = scheduler_.n_preemptions();
  for (const auto& active : active_) {
    if (!active) continue;
    const auto n_before = std::exchange(active->n_preemptions, active->sequence.n_preemptions());
    if (n_before != active->n_preemptions && active->sampling.slot >= 0)
      free_slots_.push_back(std::exchange(active->sampling.slot, -1));
  }
}

void Generator::assign_slot(Active& active) {
  if (!active.needs_slot || active.sampling.slot >= 0) return;
  NEREID_CHECK(!free_slots_.empty(), "{} sequences run and no slot is free",
               scheduler_.n_running());
  active.sampling.slot = free_slots_.back();
  free_slots_.pop_back();
  runner_.fill_slot(active.sampling.slot, {.prompt_ids = active.sequence.prompt_ids(),
                                           .generated_ids = active.sequence.generated_ids(),
                                           .biases = active.biases,
                                           .allowed_ids = active.allowed_ids});
  active.n_counted = active.sequence.n_tokens();
}

namespace {

TokenLogprobs logprobs_of_row(const StepResult& result, std::size_t row, TokenId chosen,
                              std::int32_t n_top) {
  TokenLogprobs logprobs{.chosen = {chosen, result.logprobs[row]}, .top = {}};
  for (std::size_t i = row * kMaxLogprobs; i < row * kMaxLogprobs + std::size_t(n_top); ++i)
    logprobs.top.push_back({result.top_ids[i], result.top_logprobs[i]});
  return logprobs;
}

}  // namespace

void Generator::append_token(Active& active, std::size_t row, const StepResult& result,
                             Clock::time_point now, const EventSink& on_event) {
  const TokenId id = result.ids[row];
  const bool is_end = std::ranges::find(active.end_ids, id) != active.end_ids.end();
  if (active.matcher != nullptr && !is_end && !matches(active, id, on_event)) return;
  if (!active.has_tokens)
    stats_.record_first_token(active.submitted, now);
  else
    stats_.record_next_token(active.last_token, now);
  active.last_token = now;
  AnswerEvent event{.request = active.request, .answer = active.answer, .ids = {&id, 1}};
  if (!std::exchange(active.has_tokens, true))
    event.n_cached_tokens = active.sequence.n_prefix_tokens();
  if (active.sampling.n_top >= 0) {
    active.logprobs = logprobs_of_row(result, row, id, active.sampling.n_top);
    event.logprobs = {&active.logprobs, 1};
  }
  event.has_end_token = is_end;
  if (is_end || (active.matcher != nullptr && active.matcher->is_finished()))
    event.finish_reason = FinishReason::stop;
  else if (active.sequence.is_exhausted())
    event.finish_reason = FinishReason::length;
  const bool ends_here = on_event(event);
  if (ends_here || event.finish_reason != FinishReason::none) finish(active);
}

// False: the answer has ended with an error, before this token.
bool Generator::matches(Active& active, TokenId id, const EventSink& on_event) {
  try {
    if (active.matcher->accept(id)) return true;
    tell_end(active, FinishReason::error,
             fmt::format("token {} was chosen, which the constraint forbids: logit_bias or the "
                         "model's logits left none that it allows",
                         id),
             on_event);
  } catch (const std::exception& error) {
    tell_end(active, FinishReason::error, error.what(), on_event);
  }
  return false;
}

// Rows that follow those of the sampled ids: of each prompt that is scored, its tokens in order.
void Generator::tell_scores(const sched::StepBatch& batch, const StepResult& result,
                            const EventSink& on_event) {
  const auto n_rows = std::size_t(batch.n_logit_rows);
  for (auto row = std::size_t(batch.n_sample_rows); row < n_rows;) {
    const auto* sequence = batch.row_sequences[row];
    scores_.clear();
    bool is_finite = true;
    for (; row < n_rows && batch.row_sequences[row] == sequence; ++row) {
      if (sequence == nullptr) continue;
      const auto scored = batch.positions[std::size_t(batch.logit_rows[row])] + 1;
      // What was told before a preemption, and what follows the prompt.
      Active& active = active_of(*sequence);
      if (scored < active.n_scored || scored >= sequence->n_prompt_tokens()) continue;
      active.n_scored = scored + 1;
      is_finite &= !std::isnan(result.logprobs[row]);
      scores_.push_back(logprobs_of_row(result, row, sequence->prompt_ids()[std::size_t(scored)],
                                        active.n_top_prompt));
    }
    if (sequence == nullptr) continue;
    Active& active = active_of(*sequence);
    if (!is_finite) {
      tell_end(active, FinishReason::error, not_finite_text(result.first_odd), on_event);
      continue;
    }
    // With nothing to generate, this is the end.
    const bool is_all =
        sequence->n_max_tokens() == sequence->n_prompt_tokens() && sequence->is_exhausted();
    const bool ends_here =
        on_event({.request = active.request,
                  .answer = active.answer,
                  .prompt_logprobs = scores_,
                  .finish_reason = is_all ? FinishReason::length : FinishReason::none});
    if (ends_here || is_all) finish(active);
  }
}

void Generator::tell_early_ends(Clock::time_point now, const EventSink& on_event) {
  has_early_ends_ = false;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    if (!active_[i]) continue;
    Active& active = *active_[i];
    if (active.early_end == FinishReason::none && active.has_time_limit && now >= active.deadline)
      active.early_end = FinishReason::time_limit;
    if (active.early_end != FinishReason::none) tell_end(active, active.early_end, {}, on_event);
  }
}

void Generator::tell_end(Active& active, FinishReason reason, std::string_view error,
                         const EventSink& on_event) {
  on_event({.request = active.request,
            .answer = active.answer,
            .finish_reason = reason,
            .error = error});
  finish(active);
}

// The steps in flight are lost, and with them what was to come of their sequences: they end.
void Generator::fail_steps(std::string message, const EventSink& on_event) {
  std::vector<Active*> lost;
  for (std::size_t i = 0; i < n_in_flight_; ++i)
    for (const auto* sequence : in_flight_[i].batch->sequences)
      if (sequence != nullptr) lost.push_back(&active_of(*sequence));
  n_in_flight_ = 0;
  is_tail_held_ = false;
  scheduler_.fail();
  stats_.record_failed_step();
  try {
    runner_.recover();
  } catch (const std::exception& error) {
    broken_ = fmt::format("{}; and then: {}", message, error.what());
    lost.clear();
    for (const auto& active : active_)
      if (active) lost.push_back(active.get());
  }
  std::ranges::sort(lost);
  lost.erase(std::ranges::unique(lost).begin(), lost.end());
  std::ranges::sort(lost, {}, [](const Active* active) { return active->sequence.id(); });
  for (Active* active : lost) tell_end(*active, FinishReason::error, message, on_event);
}

void Generator::finish(Active& active) {
  const std::uint64_t id = active.sequence.id();
  const auto state = active.sequence.state();
  // A request for no tokens was never scheduled.
  if (state != sched::SequenceState::created) scheduler_.finish(active.sequence);
  if (active.sampling.slot >= 0) free_slots_.push_back(active.sampling.slot);
  if (active.needs_slot) --n_with_slots_;
  if (active.has_time_limit) --n_with_limits_;
  if (const auto it = unfinished_.find(active.request); it != unfinished_.end()) {
    std::erase(it->second, id);
    if (it->second.empty()) unfinished_.erase(it);
  }
  free_ids_.push_back(id);
  active_[id] = nullptr;
}

void Generator::check_integrity() const {
  scheduler_.check_integrity();
  std::size_t n_active = 0;
  std::size_t n_slots = 0;
  for (const auto& active : active_) {
    if (!active) continue;
    ++n_active;
    if (active->sampling.slot >= 0) ++n_slots;
  }
  std::size_t n_unfinished = 0;
  for (const auto& [request, sequences] : unfinished_) n_unfinished += sequences.size();
  NEREID_CHECK(n_active == n_unfinished && free_ids_.size() + n_active == active_.size(),
               "{} answers run, {} are of unfinished requests, {} of {} ids are free", n_active,
               n_unfinished, free_ids_.size(), active_.size());
  NEREID_CHECK(free_slots_.size() + n_slots == std::size_t(runner_.limits().max_sequences),
               "{} slots are free, {} are taken", free_slots_.size(), n_slots);
  NEREID_CHECK(n_active > 0 || scheduler_.pool().n_used_blocks() == 0,
               "nothing runs, and {} KV blocks are in use", scheduler_.pool().n_used_blocks());
}

}  // namespace nereid::engine
