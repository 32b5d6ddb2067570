// Goal: the header of a safetensors file, parsed and checked against the size of the file: what
// tensors there are and where their bytes lie.
// Non-goal: the bytes.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace nereid::model {

struct TensorEntry {
  std::string name;
  std::optional<DType> dtype;  // none: a type that is not ours, such as F64
  std::string dtype_name;      // as the file spells it
  Shape shape;
  std::size_t begin = 0;  // bytes from the start of the file
  std::size_t end = 0;
};

// Entries in the order of their bytes, which fill the file from the header to its end without
// holes. Of a type that is not ours only the place is checked: the tensor may never be needed. An
// Error names `where` (the path), the tensor, what was expected and what was got.
std::vector<TensorEntry> parse_safetensors_header(std::span<const std::byte> file,
                                                  const std::string& where);

}  // namespace nereid::model
