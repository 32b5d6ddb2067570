// Goal: one model on one device, a step at a time: a batch of tokens in, one sampled id for each
// row that wants one out.
// Non-goal: which sequences run (sched), text (tokenizer), requests (Engine).
// Rejected: sampling on the host. Ids are chosen by kernels; the host receives four bytes a
// sequence.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "device/device.h"
#include "engine/sampling_params.h"
#include "model/config.h"
#include "nereid/options.h"
#include "sched/limits.h"
#include "sched/step_batch.h"

namespace nereid::engine {

// In place of an id: the row's logits have a NaN or an infinity (kernels/lib/select.py).
inline constexpr std::int32_t kNoChoice = -1;

struct StepRequest {
  const sched::StepBatch* batch = nullptr;
  std::span<const SamplingRow> sampling;  // [L]
  std::span<const std::int32_t>
      token_slots;  // [T] where each token is counted (-1: nowhere); empty: none is
  std::span<const std::int32_t>
      target_ids;  // [L] scoring: the id whose log-probability is wanted; else empty
};

struct StepResult {
  std::span<const std::int32_t> ids;  // [L] sampled ids, or kNoChoice; empty when scoring
  std::span<const float> logprobs;    // [L] natural log, NaN for kNoChoice; empty unless scoring
  std::chrono::steady_clock::time_point queued = {};  // when the device had all of the step's work
  std::string_view first_odd = {};  // check_numbers: where the first NaN or infinity appeared
};

// Of a row without a choice; `first_odd` as a step gave it. The text of an Error.
std::string not_finite_text(std::string_view first_odd);

class Runner {
 public:
  // A Program of the model, warmed. Errors: whatever a model directory, a bundle or memory can
  // lack.
  static std::unique_ptr<Runner> create(device::Device& device, const model::ModelConfig& config,
                                        const Options& options);
  virtual ~Runner() = default;

  // Of its steps and its cache, as options, model and memory made them.
  virtual const sched::Limits& limits() const = 0;
  virtual std::int64_t vocab_size() const = 0;
  virtual std::int64_t weight_bytes() const = 0;  // read by a decode step

  // The spans stay valid until the next step.
  virtual StepResult step(const StepRequest& request) = 0;
  // The last step's logits, [L, V] row-major; `out` has L * V elements.
  virtual void read_logits(std::span<float> out) = 0;
  // The slot is that of a sequence which has these ids, and no others, so far.
  virtual void fill_slot(std::int32_t slot, std::span<const std::int32_t> prompt_ids,
                         std::span<const std::int32_t> generated_ids) = 0;
};

}  // namespace nereid::engine
