// Goal: by which published design attention is computed, as a choice: the rows that `--attention`
// names, and what each can serve.
// Non-goal: the kernels (kernels/attention_designs/), whose Specs name their design.
// Rejected: a design as a pass that rewrites the graph: which kernel computes an operation is
// lowering's choice, and the graph stays the same for all.
#pragma once

#include <span>
#include <string_view>

namespace nereid::program {

struct AttentionDesign {
  std::string_view name;
  std::string_view source;     // whose idea
  bool serves_prompts = true;  // else decoding alone: nereid's kernel computes prompts
};

// What is taken unless another is asked for: this program's own kernels, fused ones among them.
inline constexpr std::string_view kOwnAttention = "nereid";

// kOwnAttention first.
std::span<const AttentionDesign> attention_designs();

// An Error names the rows where there is none of that name.
const AttentionDesign& attention_design(std::string_view name);

}  // namespace nereid::program
