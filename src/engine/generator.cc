#include "engine/generator.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/usage_error.h"
#include "engine/completion_text.h"
#include "engine/ranges.h"
#include "tokenizer/decoder.h"

namespace nereid::engine {

namespace {

// Text of a token, on average, for reserving: more costs one growth of a string.
constexpr std::int64_t kTextBytesPerToken = 4;

}  // namespace

struct Generator::Active {
  Active(RequestId request_id, const Request& request, sched::Sequence tokens)
      : id(request_id), sequence(std::move(tokens)), ignore_eos(request.ignore_eos) {}

  RequestId id;
  sched::Sequence sequence;
  SamplingRow sampling;
  std::int32_t n_counted = 0;          // of the sequence's tokens, when its slot was filled
  std::optional<CompletionText> text;  // none where the model has no tokenizer
  bool ignore_eos;
  FinishReason early_end = FinishReason::none;  // to be reported by the next step
  Clock::time_point submitted;
  Clock::time_point last_token;
  Completion completion;
};

Generator::Generator(Runner& runner, const tokenizer::Tokenizer* tokenizer,
                     std::vector<TokenId> eos_ids, Clock::time_point opened)
    : runner_(runner),
      tokenizer_(tokenizer),
      eos_ids_(std::move(eos_ids)),
      scheduler_(runner.limits()),
      stats_(opened, runner.weight_bytes()) {
  const sched::Limits& limits = runner.limits();
  for (std::int64_t slot = limits.max_sequences - 1; slot >= 0; --slot)
    free_slots_.push_back(std::int32_t(slot));
  sampling_.reserve(std::size_t(limits.max_sequences));
  new_text_.reserve(tokenizer::kTokenTextBytes);
  token_slots_.reserve(std::size_t(limits.max_batch_tokens));
}

Generator::~Generator() = default;

RequestId Generator::submit(const Request& request) {
  check_request(request);
  if (tokenizer_ == nullptr && !request.stop.empty())
    throw Error("this model has no tokenizer.json; a stop string needs one");
  std::vector<TokenId> prompt_ids = request.prompt_ids;
  if (prompt_ids.empty()) {
    if (tokenizer_ == nullptr)
      throw Error("this model has no tokenizer.json; give the prompt as token ids");
    prompt_ids = tokenizer_->encode_prompt(request.prompt);
  }
  for (const TokenId id : prompt_ids)
    if (id < 0 || id >= runner_.vocab_size())
      throw UsageError("token id {} in the prompt; expected 0 to {}, the model's vocabulary", id,
                       runner_.vocab_size() - 1);
  const auto n_prompt = std::int64_t(prompt_ids.size());
  const std::int64_t n_most = runner_.limits().max_sequence_tokens();
  if (n_prompt > n_most)
    throw Error(ErrorCode::context_length,
                "the prompt has {} tokens; expected at most {}, the context; shorten the prompt or "
                "give more context or KV blocks",
                n_prompt, n_most);
  const std::int64_t n_new = std::min(request.max_tokens, n_most - n_prompt);

  // Everything that can throw comes before the first change of state.
  const std::uint64_t sequence_id = free_ids_.empty() ? active_.size() : free_ids_.back();
  SamplingRow sampling;
  sampling.params = request.sampling;
  sampling.seed = request.sampling.seed.value_or(std::uint64_t(n_submitted_));
  const bool has_penalty = sampling.has_penalty();
  // A penalty is for the tokens that steps bring: those that are found in the cache would miss.
  auto active = std::make_unique<Active>(n_submitted_, request,
                                         sched::Sequence({.id = sequence_id,
                                                          .prompt_ids = std::move(prompt_ids),
                                                          .max_new_tokens = std::int32_t(n_new),
                                                          .uses_prefix_cache = !has_penalty}));
  active->sampling = sampling;
  active->completion.ids.reserve(std::size_t(n_new));
  if (tokenizer_ != nullptr) {
    active->text.emplace(*tokenizer_, active->sequence.prompt_ids(), request.stop);
    active->completion.text.reserve(std::size_t(n_new * kTextBytesPerToken));
  }
  active->submitted = Clock::now();
  if (n_new > 0) {
    scheduler_.add(active->sequence);
  } else {
    active->early_end = FinishReason::length;
    has_early_ends_ = true;
  }

  const RequestId id = n_submitted_++;
  if (has_penalty) ++n_penalised_;
  ids_.emplace(id, sequence_id);
  if (free_ids_.empty()) {
    active_.push_back(std::move(active));
  } else {
    free_ids_.pop_back();
    active_[sequence_id] = std::move(active);
  }
  return id;
}

void Generator::cancel(RequestId request) {
  const auto it = ids_.find(request);
  if (it == ids_.end()) return;
  active_[it->second]->early_end = FinishReason::cancelled;
  has_early_ends_ = true;
}

void Generator::withdraw(RequestId request) {
  const auto it = ids_.find(request);
  if (it != ids_.end()) finish(*active_[it->second], FinishReason::cancelled);
  finished_.erase(request);
}

Completion Generator::take(RequestId request) {
  const auto it = finished_.find(request);
  NEREID_CHECK(it != finished_.end(), "request {} is not finished, or was taken before", request);
  Completion completion = std::move(it->second->completion);
  finished_.erase(it);
  return completion;
}

Stats Generator::stats() const {
  Stats stats = stats_.summary();
  stats.n_preemptions = scheduler_.n_preemptions();
  return stats;
}

bool Generator::step(const ProgressCallback& on_progress) {
  if (has_early_ends_) report_early_ends(on_progress);
  if (!scheduler_.has_work()) {
    last_ids_ = {};
    return false;
  }
  const auto begin = Clock::now();
  const sched::StepBatch& batch = scheduler_.schedule();
  fill_sampling(batch);
  const StepResult result = runner_.step(
      {.batch = &batch, .sampling = sampling_, .token_slots = token_slots_, .target_ids = {}});
  const auto now = Clock::now();
  NEREID_CHECK(std::int64_t(result.ids.size()) == batch.n_sample_rows, "{} ids for {} rows",
               result.ids.size(), batch.n_sample_rows);
  stats_.record_step(now - begin, batch.n_tokens - batch.n_decodes, batch.n_decodes);
  if (batch.n_tokens == batch.n_decodes && last_ids_ != Clock::time_point())
    stats_.record_host(result.queued - last_ids_);
  last_ids_ = now;
  scheduler_.complete(result.ids);
  for (std::int32_t row = 0; row < batch.n_sample_rows; ++row) {
    Active& active = active_of(*batch.row_sequences[std::size_t(row)]);
    const TokenId id = result.ids[std::size_t(row)];
    if (id == kNoChoice)
      end_early(active, FinishReason::error, not_finite_text(result.first_odd), on_progress);
    else
      append_token(active, id, now, on_progress);
  }
  return scheduler_.has_work();
}

void Generator::fill_sampling(const sched::StepBatch& batch) {
  token_slots_.clear();
  if (n_penalised_ > 0) {
    release_slots_of_preempted();
    for (std::int32_t s = 0; s < batch.n_sequences; ++s) {
      Active& active = active_of(*batch.sequences[std::size_t(s)]);
      assign_slot(active);
      const auto begin = std::size_t(batch.cu_seqlens[std::size_t(s)]);
      token_slots_.resize(std::size_t(batch.cu_seqlens[std::size_t(s) + 1]), -1);
      // What is new since the slot was filled comes one token a step.
      if (batch.positions[begin] >= active.n_counted) token_slots_[begin] = active.sampling.slot;
    }
  }
  sampling_.clear();
  for (std::int32_t row = 0; row < batch.n_sample_rows; ++row) {
    Active& active = active_of(*batch.row_sequences[std::size_t(row)]);
    active.sampling.n_generated = active.sequence.n_generated_tokens();
    sampling_.push_back(active.sampling);
  }
}

void Generator::release_slots_of_preempted() {
  // Sequences that wait hold no slot, so that there is one for each that runs.
  if (scheduler_.n_preemptions() == n_preemptions_seen_) return;
  n_preemptions_seen_ = scheduler_.n_preemptions();
  for (const auto& active : active_) {
    if (!active || active->sampling.slot < 0) continue;
    if (active->sequence.state() != sched::SequenceState::waiting) continue;
    free_slots_.push_back(std::exchange(active->sampling.slot, -1));
  }
}

void Generator::assign_slot(Active& active) {
  if (!active.sampling.has_penalty() || active.sampling.slot >= 0) return;
  NEREID_CHECK(!free_slots_.empty(), "{} sequences run and no slot is free",
               scheduler_.n_running());
  active.sampling.slot = free_slots_.back();
  free_slots_.pop_back();
  runner_.fill_slot(active.sampling.slot, active.sequence.prompt_ids(),
                    active.sequence.generated_ids());
  active.n_counted = active.sequence.n_tokens();
}

void Generator::append_token(Active& active, TokenId id, Clock::time_point now,
                             const ProgressCallback& on_progress) {
  if (active.completion.ids.empty())
    stats_.record_first_token(active.submitted, now);
  else
    stats_.record_next_token(active.last_token, now);
  active.last_token = now;
  active.completion.ids.push_back(id);

  auto reason = FinishReason::none;
  new_text_.clear();
  const bool is_eos = !active.ignore_eos && std::ranges::find(eos_ids_, id) != eos_ids_.end();
  if (is_eos) {
    reason = FinishReason::stop;
    if (active.text) active.text->push_end_token(id, new_text_);
  } else if (active.text && active.text->push(id, new_text_)) {
    reason = FinishReason::stop;
  } else if (active.sequence.is_exhausted()) {
    reason = FinishReason::length;
  }
  if (reason != FinishReason::none && active.text && active.text->finish(new_text_))
    reason = FinishReason::stop;
  active.completion.text += new_text_;
  if (reason != FinishReason::none) finish(active, reason);
  if (on_progress)
    on_progress(
        {.request = active.id, .ids = {&id, 1}, .text = new_text_, .finish_reason = reason});
}

void Generator::report_early_ends(const ProgressCallback& on_progress) {
  has_early_ends_ = false;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    if (!active_[i] || active_[i]->early_end == FinishReason::none) continue;
    end_early(*active_[i], active_[i]->early_end, {}, on_progress);
  }
}

void Generator::end_early(Active& active, FinishReason reason, std::string error,
                          const ProgressCallback& on_progress) {
  const RequestId id = active.id;
  new_text_.clear();
  if (active.text) active.text->finish(new_text_);
  active.completion.text += new_text_;
  active.completion.error = std::move(error);
  finish(active, reason);
  if (on_progress)
    on_progress({.request = id, .ids = {}, .text = new_text_, .finish_reason = reason});
}

void Generator::finish(Active& active, FinishReason reason) {
  const std::uint64_t sequence_id = active.sequence.id();
  // A request for no tokens was never scheduled.
  if (active.sequence.state() != sched::SequenceState::created) scheduler_.finish(active.sequence);
  if (active.sampling.slot >= 0) free_slots_.push_back(active.sampling.slot);
  if (active.sampling.has_penalty()) --n_penalised_;
  const auto prompt = active.sequence.prompt_ids();
  active.completion.prompt_ids.assign(prompt.begin(), prompt.end());
  active.completion.finish_reason = reason;
  ids_.erase(active.id);
  free_ids_.push_back(sequence_id);
  finished_[active.id] = std::move(active_[sequence_id]);
}

}  // namespace nereid::engine
