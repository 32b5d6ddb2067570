// Goal: where a weight of a graph lies in the checkpoint, as its name says:
//   TENSOR                  the tensor of that name
//   TENSOR.rows.BEGIN.N.ALL N of ALL rows: one of several matrices that are stored as one (Phi-3),
//                           or a rank's part
//   NAME.columns.BEGIN.N.ALL  of what NAME is (one of the two above) N of ALL columns: a rank's
//   part one_plus.NAME           1 + what NAME is, in fp32: a norm's factor, stored as what it is
//   more
//                           than 1 (Gemma)
//   scale.NAME, zero.NAME   what a quantised weight is multiplied by, and what is taken from it
//                           before (quantization.h)
//   order.NAME              which column of the stored weight each of its columns is
// Non-goal: reading (checkpoint.h); which weights a model has (llama.cc).
// Rejected: an op for each. Both are settled once weights are loaded, and would stand between a
// weight and every pass and kernel that looks for one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nereid::model {

struct StoredRange {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::int64_t n_stored = 0;  // rows (columns) that the tensor has, all parts together
};

enum class StoredPart : std::uint8_t { value, one_plus, scale, zero, order };

struct StoredName {
  std::string_view tensor;  // a part of the name it was read from
  std::optional<StoredRange> rows, columns;
  StoredPart part = StoredPart::value;
};

StoredName stored_name(std::string_view weight);

std::string rows_name(const std::string& tensor, StoredRange rows);
std::string columns_name(const std::string& name, StoredRange columns);
// The name of another part of what `weight` names.
std::string part_name(StoredPart part, const std::string& weight);

}  // namespace nereid::model
