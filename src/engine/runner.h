// Goal: one model on its devices, a step at a time: a batch of tokens in, one sampled id for each
// row that wants one out. A second step may be queued while the first runs; its tokens may be the
// ids that the first is about to choose.
// Non-goal: which sequences run (sched), text (tokenizer), requests (Generator).
// Rejected: sampling on the host. Ids are chosen by kernels; the host receives four bytes a
// sequence.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/progress.h"
#include "device/device.h"
#include "engine/sampling_params.h"
#include "engine/token_bias.h"
#include "model/config.h"
#include "nereid/memory_use.h"
#include "nereid/options.h"
#include "sched/limits.h"
#include "sched/step_batch.h"

namespace nereid::engine {

// In place of an id: the row's logits have a NaN or an infinity (kernels/lib/select.py).
inline constexpr std::int32_t kNoChoice = -1;

struct StepRequest {
  const sched::StepBatch* batch = nullptr;
  std::span<const SamplingRow> sampling;  // [L]; empty: rows are only scored, and their logits kept
  // [T] the slot in which a row's token is counted as generated, or -1; empty: none is
  std::span<const std::int32_t> token_slots;
  // [L] the id whose log-probability is wanted; -1: of the sampled one
  std::span<const std::int32_t> target_ids;
  // Its ids are not chosen before queue_tail(): some rows' masks are not known yet. One of its rows
  // has a slot.
  bool waits_for_masks = false;
};

struct StepResult {
  std::span<const std::int32_t> ids;  // [L] sampled ids, or kNoChoice; empty when only scoring
  // Natural log, NaN for kNoChoice; empty where no row wants any.
  std::span<const float> logprobs;        // [L]
  std::span<const std::int32_t> top_ids;  // [L, kMaxLogprobs]; of a row the first n_top are set
  std::span<const float> top_logprobs;    // the same
  std::string_view first_odd = {};        // check_numbers: where the first NaN or infinity appeared
};

// What a slot of the device's tables is to hold.
struct SlotTables {
  std::span<const TokenId> prompt_ids, generated_ids;  // for penalties
  std::span<const BiasRow> biases;
  std::span<const TokenId> allowed_ids;  // empty: all
};

// Of a row without a choice; `first_odd` as a step gave it. The text of an Error.
std::string not_finite_text(std::string_view first_odd);

class Runner {
 public:
  // A Program of the model, warmed. Errors: whatever a model directory, a bundle or memory can
  // lack.
  static std::unique_ptr<Runner> create(std::span<device::Device* const> devices,
                                        const model::ModelConfig& config, const Options& options,
                                        const ProgressSink& progress = {});
  static std::unique_ptr<Runner> create(device::Device& device, const model::ModelConfig& config,
                                        const Options& options, const ProgressSink& progress = {}) {
    return create(std::array{&device}, config, options, progress);
  }
  virtual ~Runner() = default;

  // Of its steps and its cache, as options, model and memory made them.
  virtual const sched::Limits& limits() const = 0;
  virtual std::int64_t vocab_size() const = 0;
  virtual std::int64_t weight_bytes() const = 0;  // read by a decode step
  virtual MemoryUse memory_use() const = 0;
  // Whether a step that is queued runs while the host goes on: then it is worth to queue the next.
  virtual bool works_beside_host() const = 0;

  // At most two steps are queued and not waited for.
  virtual void queue(const StepRequest& request) = 0;
  // What slot's tokens are allowed, a bit each, [ceil(V / 32)]: to be filled when a step waits for
  // masks and all before it are done, in place of what the slot's tables say.
  virtual std::span<std::uint32_t> mask(std::int32_t slot) = 0;
  // The rest of the step that waits for masks, with those of these slots, ascending; before any
  // other step is queued.
  virtual void queue_tail(std::span<const std::int32_t> slots) = 0;
  // For the oldest one. The spans stay valid until the step after the next is queued.
  virtual StepResult wait() = 0;
  StepResult step(const StepRequest& request) {
    queue(request);
    return wait();
  }
  // After a call that threw: what is queued is forgotten. What this throws says that the device
  // can run no more steps.
  virtual void recover() = 0;

  // The last step's logits, where it only scored, [L, V] row-major; `out` has L * V elements.
  virtual void read_logits(std::span<float> out) = 0;
  // Ordered after the steps that are queued.
  virtual void fill_slot(std::int32_t slot, const SlotTables& tables) = 0;
};

}  // namespace nereid::engine
