#include "engine/captured_steps.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace nereid::engine {

CapturedSteps::CapturedSteps(device::Device& device, std::int64_t max_sequences)
    : device_(device),
      max_sequences_(max_sequences),
      n_buckets_(bucket_of(max_sequences) + 1),
      steps_(kNTails * n_buckets_) {}

// 1 row: 0; 2: 1; 3 and 4: 2; 5 to 8: 3; ...
std::size_t CapturedSteps::bucket_of(std::int64_t n_rows) {
  return static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(n_rows - 1)));
}

std::int64_t CapturedSteps::padded_rows(std::int64_t n_sequences) const {
  NEREID_CHECK(n_sequences >= 1 && n_sequences <= max_sequences_, "{} sequences", n_sequences);
  return std::min(std::int64_t{1} << bucket_of(n_sequences), max_sequences_);
}

void CapturedSteps::run(model::Tail tail, std::int64_t n_rows, graph::Plan& plan) {
  auto& step = steps_[static_cast<std::size_t>(tail) * n_buckets_ + bucket_of(n_rows)];
  const auto run_plan = [&] { plan.run(device_, {1, n_rows, n_rows, n_rows, 1}); };
  if (!step.was_run) {
    // The first one goes the plain way: drivers load a kernel at its first launch, which they
    // cannot do while they capture.
    run_plan();
    step.was_run = true;
    return;
  }
  if (!step.work) step.work = device_.capture(run_plan);
  device_.replay(*step.work);
}

}  // namespace nereid::engine
