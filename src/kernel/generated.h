// Goal: a kernel that is not in kernels/: its source is written while planning and goes to the
// compiler with the requests for it (docs/formats.md, section 3).
// Non-goal: writing it (graph/triton_source.h).
#pragma once

#include <string>

#include "kernel/spec.h"

namespace nereid::kernel {

struct GeneratedKernel {
  Spec spec;           // its name holds a hash of the source: equal names are equal kernels
  std::string source;  // a file in the form of those in kernels/, with the same spec
};

}  // namespace nereid::kernel
