// Goal: numbers of the floating-point types as fp32 on the host, and the nearest number of a type.
// Non-goal: speed: for what is as small as a norm's weight, once.
// Rejected: the compilers' half types. Not every one that builds this has them.
#pragma once

#include <vector>

#include "tensor/tensor.h"

namespace nereid {

// Every element; each is exact.
std::vector<float> widened(const HostTensor& tensor);

// The nearest number of a type, the even one of two; fp32 leaves it. For numbers that are normal
// in that type.
float rounded_to(DType dtype, float value);

}  // namespace nereid
