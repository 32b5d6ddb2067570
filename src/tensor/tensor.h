// Goal: a view of elements somewhere: dtype, shape, address. Contiguous, row-major; owns nothing.
// Non-goal: arithmetic, broadcasting, strides: a kernel's arguments carry what strides it needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace nereid {

using Shape = std::vector<std::int64_t>;

// Product of the dimensions; an Error (not an overflow) where it does not fit in 63 bits or a
// dimension is negative.
std::int64_t n_elements(const Shape& shape);
std::string shape_text(const Shape& shape);  // "[2, 384]"

// Elements in host memory, for example inside a mapped file.
struct HostTensor {
  DType dtype = DType::fp32;
  Shape shape;
  std::span<const std::byte> bytes;
};

}  // namespace nereid
