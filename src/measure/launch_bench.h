// Goal: planned launches, each ready to run alone: on weights and keys that come from memory and
// not from a cache, all else as the program lays it out. Non-goal: meaningful numbers (only what
// decides how much is computed is real: lengths, block tables), and what to measure
// (kernel_bench.h, tuner.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "device/device.h"
#include "measure/step_planner.h"
#include "program/program.h"

namespace nereid::measure {

// What is measured elsewhere says nothing of the target: an Error where no device of it is here.
std::unique_ptr<device::Device> open_device_of(const std::string& target, int n_threads);

// Microseconds of one of these, which are queued as a round: the median of so many samples. What
// takes long is queued less often.
double median_us_of_round(device::Device& device, std::vector<program::BoundLaunch> launches,
                          const graph::Sizes& sizes, int n_repeats);

class LaunchBench {
 public:
  // Launches come from the bundle, which has planner.fill_request() too; without one from that
  // which the engine would find. Planner and device outlive this.
  LaunchBench(const StepPlanner& planner, device::Device& device,
              std::optional<kernel::Bundle> bundle = {});

  // More than any cache between memory and a kernel holds.
  static constexpr std::size_t kPoolBytes = std::size_t{256} << 20;

  struct Step {
    StepShape shape;
    graph::Sizes sizes;
    program::StepPlan plan;
    program::Addresses addresses;
  };
  // The inputs of the last step that was made say which keys a launch reads.
  Step make_step(const StepShape& shape, std::int64_t n_logits);

  // What one sample of a timing takes.
  static constexpr double kSampleMs = 5;
  // Microseconds of a launch of the step: the median of so many samples.
  double median_us(const Step& step, const program::PlannedLaunch& launch, int n_repeats);

  // A launch as often as it takes to pass the pool once, or some hundred times; what takes long
  // less often: it finds no weights in a cache then either.
  struct Copies {
    std::function<void()> queue;
    std::size_t n = 0;
  };
  // Of a launch of the step, perhaps with another choice. An Error where the device cannot load it.
  Copies copies_of(const Step& step, const program::PlannedLaunch& launch);

 private:
  std::size_t pooled_bytes(const graph::Value& value) const;
  std::size_t touched_bytes(const Step& step, const graph::Value& value) const;
  void fill(device::Address address, std::size_t size_bytes);
  void set_inputs(const StepShape& shape, const graph::Sizes& sizes);
  device::Buffer own_memory(const Step& step, const program::PlannedLaunch& launch,
                            program::Addresses& addresses);

  const StepPlanner& planner_;
  device::Device& device_;
  program::Program program_;
  program::RandomFill random_;
  device::Buffer pool_;
};

}  // namespace nereid::measure
