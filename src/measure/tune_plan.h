// Goal: what there is to tune: the launches of a model's steps, each with the choices that its
// kernel allows and with what a table's row can ask for to mean just this launch. Knows no device.
// Non-goal: measuring (tuner.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernel/request.h"
#include "measure/step_planner.h"
#include "measure/tuning_file.h"

namespace nereid::measure {

// A launch and all that may be chosen for it; the first is what is chosen now.
struct Contest {
  StepShape step;
  std::int64_t n_logits = 0;
  program::PlannedLaunch launch;
  std::vector<kernel::KernelRequest> candidates;
  Conditions when;
  std::string kernel, name, shape;  // for people
};

// Of each launch once that leaves a choice, in the order of the steps. `kernels`: only these;
// empty: all. An Error names a kernel that leaves none.
std::vector<Contest> plan_contests(const StepPlanner& planner, std::span<const StepShape> steps,
                                   std::span<const std::string> kernels);

}  // namespace nereid::measure
