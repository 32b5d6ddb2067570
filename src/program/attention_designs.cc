#include "program/attention_designs.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/usage_error.h"

namespace nereid::program {

std::span<const AttentionDesign> attention_designs() {
  static constexpr AttentionDesign kDesigns[] = {
      {kOwnAttention, "this program's"},
      {"amd", "ROCm flash-attention"},
      {"tutorial", "Triton's tutorial"},
      {"dao", "Dao-AI-Lab flash-attention"},
      {"split-k", "xFormers", /*serves_prompts=*/false},
      {"split-k-atomic", "xFormers, summed by arrival", /*serves_prompts=*/false},
      {"flex", "PyTorch FlexAttention"}};
  return kDesigns;
}

const AttentionDesign& attention_design(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& row : attention_designs()) {
    if (row.name == name) return row;
    names.push_back(row.name);
  }
  throw UsageError("there is no attention design \"{}\"; expected one of {}", name,
                   fmt::join(names, ", "));
}

}  // namespace nereid::program
