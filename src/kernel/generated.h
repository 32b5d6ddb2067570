// Goal: a kernel that is not in kernels/: its source was written while planning, or is a user's; it
// goes to the compiler with the requests for it (docs/formats.md, section 3).
// Non-goal: writing it (graph/triton_source.h), reading a user's (own_op.h).
#pragma once

#include <string>

#include "kernel/spec.h"

namespace nereid::kernel {

struct GeneratedKernel {
  Spec spec;                  // its name holds a hash of the source: equal names are equal kernels
  std::string source;         // a file in the form of those in kernels/, with the same spec
  std::string exported = {};  // a user's: what Python said of the file; bundles keep it beside it
};

}  // namespace nereid::kernel
