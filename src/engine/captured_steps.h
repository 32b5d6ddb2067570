// Goal: decoding steps as one piece of work for the device: a step's launches are captured once for
// each tail and number of rows, and replayed from then on.
// Non-goal: what a step launches (Plan), what it reads (StepInputs: the same addresses every time).
// Rejected: a capture for each number of sequences. Between two powers of two the rows that are
// over are padding, which kernels skip, and a server meets every number sooner or later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "device/device.h"
#include "engine/plan_catalog.h"
#include "graph/plan.h"
#include "model/architecture.h"

namespace nereid::engine {

class CapturedSteps {
 public:
  CapturedSteps(device::Device& device, std::int64_t max_sequences);

  // What a step of so many sequences is padded to: a power of two, or the most there may be.
  std::int64_t padded_rows(std::int64_t n_sequences) const;

  // A step of `n_rows` (padded) tokens, sequences and logit rows, queued. `plan` must be the same
  // each time.
  void run(model::Tail tail, std::int64_t n_rows, graph::Plan& plan);

 private:
  struct Step {
    bool was_run = false;
    std::unique_ptr<device::CapturedWork> work;
  };

  static std::size_t bucket_of(std::int64_t n_rows);

  device::Device& device_;
  std::int64_t max_sequences_;
  std::size_t n_buckets_;
  std::vector<Step> steps_;  // [tail, bucket]
};

}  // namespace nereid::engine
