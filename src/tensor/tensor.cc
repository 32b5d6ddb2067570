#include "tensor/tensor.h"

#include <fmt/ranges.h>

#include "base/error.h"

namespace nereid {

std::int64_t n_elements(const Shape& shape) {
  std::int64_t count = 1;
  for (const auto dim : shape)
    if (dim < 0 || __builtin_mul_overflow(count, dim, &count))
      throw Error("shape {} has a negative dimension or more than 2^63 elements",
                  shape_text(shape));
  return count;
}

std::string shape_text(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace nereid
