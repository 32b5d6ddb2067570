// Goal: one model on one device or on several, as if it were one Program: each rank has its part of
// the weights, and all run every step at the same time (docs/parallel.md).
// Non-goal: several models, or steps of different sequences on different devices: replicas are
// processes of their own (docs/serving.md).
// Rejected: a process a rank. The scheduler would have to speak to them, and each to map the
// others' memory through the driver; threads share both.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "program/program.h"
#include "program/rank_threads.h"

namespace nereid::program {

class ParallelProgram {
 public:
  // A rank a device, in this order. Errors: those of Program; devices of different kinds, or whose
  // memory the others cannot reach; a model that so many do not divide.
  ParallelProgram(std::span<device::Device* const> devices, const model::ModelConfig& config,
                  const Options& options, const ProgressSink& progress = {});
  ~ParallelProgram();

  // As Program has them. What differs: weight_bytes() and memory_use() are of all ranks.
  const model::ModelConfig& config() const { return first().config(); }
  const sched::Limits& limits() const { return first().limits(); }
  const Planner& planner() const { return first().planner(); }
  std::int64_t weight_bytes() const;
  MemoryUse memory_use() const;
  const StepInputs& inputs() const { return first().inputs(); }
  void warm();
  StepInputs& begin(const Step& step);
  void queue(const Step& step);
  std::span<std::uint32_t> mask(std::int32_t slot) { return programs_[0]->mask(slot); }
  void queue_tail(std::span<const std::int32_t> slots);
  StepOutput wait();
  // An Error where a device does not come back from a step: then none can be run any more.
  void recover();
  void read_logits(std::span<float> out) { programs_[0]->read_logits(out); }
  void write_state(const std::string& name, std::size_t begin_bytes,
                   std::span<const std::byte> bytes);
  std::string trace() const { return first().trace(); }

 private:
  const Program& first() const { return *programs_[0]; }
  bool is_parallel() const { return programs_.size() > 1; }
  void open(std::span<device::Device* const> devices, const model::ModelConfig& config,
            const Options& options, const ProgressSink& progress);
  void compare_ranks() const;

  // Shared with the threads' work, which may outlive a call.
  std::vector<std::shared_ptr<Program>> programs_;
  std::vector<std::string> names_;  // of the devices
  bool checks_ranks_ = false;
  std::unique_ptr<RankThreads> threads_;  // of several
};

}  // namespace nereid::program
