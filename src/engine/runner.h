// Goal: one model on one device, a step at a time: a batch of tokens in, one sampled id for each
// row that wants one out.
// Non-goal: which sequences run (sched), text (tokenizer), requests (Engine).
// Rejected: sampling on the host. Ids are chosen by kernels; the host receives four bytes a
// sequence.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "model/config.h"
#include "sched/scheduler.h"
#include "tensor/dtype.h"

namespace nereid::engine {

// In place of an id: the row's logits have a NaN or an infinity (kernels/lib/select.py).
inline constexpr std::int32_t kNoChoice = -1;

// How one row's next id is chosen. temperature 0: the largest logit, everything else ignored but
// the penalty.
struct SamplingRow {
  float temperature = 0.0F;
  float top_p = 1.0F;               // 1: off
  float min_p = 0.0F;               // 0: off
  float repetition_penalty = 1.0F;  // 1: off
  std::int32_t top_k = 0;           // 0: off
  std::int32_t slot = -1;           // row of the seen-token table; used only with a penalty
  std::uint64_t seed = 0;
  std::int32_t n_generated =
      0;  // tokens generated before this one: with the seed, the random number's key
};

struct RunnerOptions {
  std::filesystem::path model_dir;
  std::string mode = "auto";               // auto | eager | compiled | graph
  std::set<std::string> skip_passes = {};  // of the graph compiler, by name
  bool random_weights = false;             // config.json only; weights filled on the device
  std::int64_t max_batch_tokens = 512;     // tokens of a step
  std::int64_t max_sequences = 64;         // sequences of a step
  std::int64_t max_logit_rows = 0;         // rows of a step that get logits; 0: max_sequences
  std::int64_t max_context_tokens = 0;     // 0: the model's
  std::int64_t n_kv_blocks =
      0;  // 0: what max_sequences contexts need, within the device's free memory
  std::filesystem::path bundle_dir;  // empty: beside the model, then the user's cache
  bool print_launches = false;       // debugging: the launches of the first step, on stderr
  bool check_numbers = false;        // debugging: looks at what every launch wrote
};

struct StepRequest {
  const sched::StepBatch* batch = nullptr;
  std::span<const SamplingRow> sampling;  // [L]
  std::span<const std::int32_t>
      token_slots;  // [T] seen-table row of each token (-1: none); empty: no penalty
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
  // Loads weights, plans, finds or compiles the kernels. Errors: whatever a model directory, a
  // bundle or memory can lack.
  static std::unique_ptr<Runner> create(device::Device& device, const model::ModelConfig& config,
                                        const RunnerOptions& options);
  virtual ~Runner() = default;

  // Of its steps and its cache, as options, model and memory made them.
  virtual const sched::Limits& limits() const = 0;
  virtual std::int64_t vocab_size() const = 0;
  virtual std::int64_t weight_bytes() const = 0;  // read by a decode step

  // The spans stay valid until the next step.
  virtual StepResult step(const StepRequest& request) = 0;
  // The last step's logits, [L, V] row-major; `out` has L * V elements.
  virtual void read_logits(std::span<float> out) = 0;
  // Forgets which tokens this seen-table row has met.
  virtual void clear_slot(std::int32_t slot) = 0;
};

}  // namespace nereid::engine
