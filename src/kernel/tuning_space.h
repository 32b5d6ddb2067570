// Goal: the choices that tuning may try for one use of a kernel: what its Spec's space allows
// (docs/formats.md, section 1).
// Non-goal: measuring them (measure/tuner.h).
// Rejected: choices as rows of a table that is planned with anew. One problem says all that a
// choice depends on.
#pragma once

#include <string_view>
#include <vector>

#include "kernel/request.h"
#include "kernel/spec.h"
#include "kernel/tuning.h"

namespace nereid::kernel {

// Whether the spec has anything to try on targets like this.
bool has_space(const Spec& spec, std::string_view target);

// What is chosen for the problem as things stand, then every other allowed choice, each once. What
// the space leaves out stays as it is chosen now.
std::vector<KernelRequest> tuning_candidates(const Spec& spec, const TuningTable& tuning,
                                             std::string_view target, const Problem& problem);

}  // namespace nereid::kernel
