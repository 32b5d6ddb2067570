// The one list of architectures that become graphs.

#include <array>
#include <string_view>

#include "base/error.h"
#include "model/architecture.h"

namespace nereid::model {

namespace {

struct Row {
  std::string_view architecture;  // as config.json spells it
  graph::Graph (*build)(const ModelConfig&, const GraphOptions&);
};

constexpr std::array<Row, 5> kRows{{
    {"LlamaForCausalLM", build_llama},
    {"GraniteForCausalLM", build_llama},
    {"MistralForCausalLM", build_llama},
    {"Qwen2ForCausalLM", build_llama},
    {"Qwen3ForCausalLM", build_llama},
}};

}  // namespace

graph::Graph build_graph(const ModelConfig& config, const GraphOptions& options) {
  for (const auto& row : kRows)
    if (row.architecture == config.architecture) return row.build(config, options);
  throw Error("architecture \"{}\" is not supported", config.architecture);
}

}  // namespace nereid::model
